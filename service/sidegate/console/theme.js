// Before the page is drawn: the theme that was chosen here.
(() => {
    let chosen = "auto";
    try {
        chosen = localStorage.getItem("sidegate.theme") ?? "auto";
    } catch {
        // Without storage it is the system's.
    }
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
