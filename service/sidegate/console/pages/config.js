// The config in force, without its secrets; and reading it again.

import { ask } from "../api.js";
import { element, fill } from "../element.js";
import { table } from "../tables.js";
import { known, when } from "../words.js";

export async function show({ page, signal }) {
    const outcome = element("div", { role: "status" });
    const place = element("div", { class: "page" });
    const button = element("button", { type: "button", class: "first" }, "Reload the config");
    button.addEventListener("click", async () => {
        button.disabled = true;
        try {
            const done = await ask("/admin/reload", { method: "POST" });
            const what = done.changed.length ? `changed: ${done.changed.join(", ")}` : "nothing has changed";
            fill(outcome, element("p", { class: "done" }, `Config ${done.generation} is in force; ${what}.`));
            await look();
        } catch (error) {
            fill(outcome, element("p", { class: "problem" }, error.message));
        }
        button.disabled = false;
    });
    fill(page, element("div", { class: "row" }, [button, element("span", { class: "hint" }, "A config that is wrong changes nothing. No call is dropped.")]), outcome, place);
    const look = async () => {
        const [config, status] = await Promise.all([ask("/admin/config", { signal }), ask("/admin/status", { signal })]);
        fill(place, inForce(config, status));
    };
    await look();
    const plugins = await ask("/admin/plugins", { signal });
    page.append(element("section", { class: "sheet", "aria-labelledby": "plugins" }, [
        element("h2", { id: "plugins" }, "Plugins that a config may use"), table("Plugins", PLUGINS, plugins.data),
    ]));
}

function inForce(config, status) {
    return [
        config.warnings.map((text) => element("p", { class: "notice" }, text)),
        status.reload.error ? element("p", { class: "problem" }, `The last reload failed: ${status.reload.error}`) : null,
        element("section", { class: "sheet", "aria-labelledby": "file" }, [
            element("div", { class: "row spread" }, [
                element("h2", { id: "file" }, config.path),
                element("span", { class: "hint" }, [`config ${status.reload.generation}, since `, when(status.reload.loaded_at)]),
            ]),
            element("p", { class: "hint" }, "What it says besides the defaults, with variables filled in; secrets are ***."),
            element("pre", { class: "code", tabindex: 0 }, config.yaml),
            element("details", {}, [element("summary", {}, "All settings, with defaults"), element("pre", { class: "code", tabindex: 0 }, JSON.stringify(config.settings, null, 2))]),
        ]),
    ];
}

const PLUGINS = [
    { title: "Name", cell: (row) => row.name },
    { title: "What it does", cell: (row) => known(row.error ?? row.summary, "–") },
    { title: "Kind", cell: (row) => (row.fails_open ? "observer" : "guard") },
    { title: "Class", cell: (row) => element("code", {}, row.path) },
];
