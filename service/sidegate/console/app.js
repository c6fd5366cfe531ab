// The page: where an address leads, the key, the theme, and what is said of the connection.

import { forgetKey, hasKey, promptBy } from "./api.js";
import { element, fill, say } from "./element.js";
import { live } from "./live.js";
import { count, rough } from "./words.js";

const PAGES = [
    ["", "Overview", () => import("./pages/overview.js")],
    ["calls", "Calls", () => import("./pages/calls.js")],
    ["playground", "Playground", () => import("./pages/playground.js")],
    ["usage", "Usage", () => import("./pages/usage.js")],
    ["budgets", "Budgets", () => import("./pages/budgets.js")],
    ["jobs", "Jobs", () => import("./pages/jobs.js")],
    ["keys", "Keys", () => import("./pages/keys.js")],
    ["pipelines", "Pipelines", () => import("./pages/pipelines.js")],
    ["models", "Models", () => import("./pages/models.js")],
    ["config", "Config", () => import("./pages/config.js")],
];
const SPOKEN_MS = 20_000;

const main = document.getElementById("main");
let leaving = new AbortController();
let before = null;

// --- addresses -------------------------------------------------------------------------------------------------------

/** `#/calls/ID?caller=ann`: the name of a page, what it is of, and its parameters. */
function address() {
    const [path, text = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
    const [name, ...rest] = path.split("/").map(decoded);
    return { name, rest, parameters: new URLSearchParams(text) };
}

function decoded(part) {
    try {
        return decodeURIComponent(part);
    } catch {
        return part;
    }
}

async function go() {
    const { name, rest, parameters } = address();
    const [, title, load] = PAGES.find(([each]) => each === name) ?? [null, "Not found", null];
    leaving.abort();
    leaving = new AbortController();
    const { signal } = leaving;
    mark(name);
    const heading = element("h1", { tabindex: -1 }, title);
    const page = element("div", { class: "page" });
    fill(main, heading, page);
    document.title = `${title} · Sidegate`;
    // The first page of all begins at its top; from then on whoever moves is where they went.
    if (before !== null) heading.focus({ preventScroll: true });
    if (before !== null) window.scrollTo(0, 0);
    before = name;
    if (load === null) return void fill(page, element("p", {}, ["There is no such page. ", element("a", { href: "#/" }, "Overview")]));
    try {
        const { show } = await load();
        if (!signal.aborted) await show({ page, heading, rest, parameters, signal });
    } catch (error) {
        if (!signal.aborted) page.prepend(element("p", { class: "problem", role: "alert" }, error.message));
    }
}

function mark(name) {
    for (const link of document.querySelectorAll("#nav a")) {
        if (link.dataset.page !== name) {
            link.removeAttribute("aria-current");
            continue;
        }
        link.setAttribute("aria-current", "page");
        // Where the list is a row, the page that one is on is seen in it.
        link.parentElement.scrollLeft = link.offsetLeft - link.parentElement.offsetLeft - 40;
    }
}

fill(document.getElementById("nav"), PAGES.map(([name, title]) => {
    const link = element("a", { href: `#/${name}`, "data-page": name }, title);
    // Again to where one is: look anew.
    link.addEventListener("click", () => location.hash.replace(/^#\/?/, "") === name && go());
    return link;
}));

// --- the key ---------------------------------------------------------------------------------------------------------

const dialog = document.getElementById("key");
const problem = document.getElementById("key-problem");
const value = document.getElementById("key-value");

promptBy((why) => new Promise((given) => {
    problem.hidden = !why;
    say(problem, why);
    value.value = "";
    dialog.oncancel = (event) => event.preventDefault();
    // Browsers let it be closed all the same; without the key there is nothing behind it.
    dialog.onclose = () => dialog.showModal();
    document.getElementById("key-form").onsubmit = (event) => {
        event.preventDefault();
        if (!value.value.trim()) return;
        dialog.onclose = null;
        dialog.close();
        given(value.value.trim());
        value.value = "";
        document.getElementById("forget").hidden = false;
    };
    dialog.showModal();
}));

const forget = document.getElementById("forget");
forget.hidden = !hasKey();
forget.addEventListener("click", () => {
    forgetKey();
    location.reload();
});

// --- the theme and the connection ------------------------------------------------------------------------------------

const theme = document.getElementById("theme");
theme.value = document.documentElement.dataset.theme ?? "auto";
theme.addEventListener("change", () => {
    if (theme.value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme.value;
    try {
        localStorage.setItem("sidegate.theme", theme.value);
    } catch {
        // It holds for this page then.
    }
    document.dispatchEvent(new Event("theme"));
});

const connection = document.getElementById("connection");
live.addEventListener("state", () => {
    connection.className = `connection ${live.state}`;
    say(connection, live.state === "on" ? "Live" : `Not connected. ${live.why}`);
});

// Numbers change each second, and are told now and then.
setInterval(() => {
    const { now } = live;
    if (live.state !== "on" || document.hidden || address().name !== "") return;
    const tokens = rough(now.tokens_per_second.output);
    say(document.getElementById("spoken"), `${count(now.in_flight)} calls in flight, ${tokens} output tokens per second.`);
}, SPOKEN_MS);

document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
});
window.addEventListener("hashchange", go);
live.start();
go();
