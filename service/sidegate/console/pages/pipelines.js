// Pipelines as they came to be: each plugin in order, what it does and how long it takes; and which routes take which.

import { ask } from "../api.js";
import { element, fill } from "../element.js";
import { table } from "../tables.js";
import { count, known, span, tag } from "../words.js";

export async function show({ page, signal }) {
    const [pipelines, routes] = await Promise.all([ask("/admin/pipelines", { signal }), ask("/admin/routes", { signal })]);
    fill(page,
        element("section", { class: "sheet", "aria-labelledby": "routes" }, [element("h2", { id: "routes" }, "Routes"), table("Routes", ROUTES, routes.data)]),
        pipelines.data.map((pipeline) => element("section", { class: "sheet", "aria-label": `Pipeline ${pipeline.name}` }, [
            element("h2", {}, `Pipeline ${pipeline.name}`),
            element("p", { class: "hint" }, "Outermost first. Times are each plugin's own, without what is further in, since the start of this process."),
            steps(pipeline.plugins, "No plugin: calls go straight to their provider."),
            pipeline.attempt.length ? element("h3", {}, "Once for each attempt") : null,
            pipeline.attempt.length ? steps(pipeline.attempt, "") : null,
        ])),
    );
}

function steps(plugins, empty) {
    if (!plugins.length) return element("p", { class: "empty" }, empty);
    return element("ol", { class: "steps" }, plugins.map((plugin) => element("li", {}, [
        element("div", { class: "row spread" }, [
            element("strong", {}, plugin.name),
            element("div", { class: "row" }, [
                tag(plugin.kind, ""),
                element("span", {}, `${count(plugin.calls)} calls`),
                plugin.calls ? element("strong", {}, `${span(plugin.seconds / plugin.calls)} each`) : null,
                plugin.calls ? element("span", {}, `${span(plugin.seconds)} in all`) : null,
                plugin.failures ? tag(`${count(plugin.failures)} failures`, "bad") : null,
            ]),
        ]),
        element("code", { class: "hint" }, plugin.class),
        Object.keys(plugin.settings ?? {}).length
            ? element("details", {}, [element("summary", {}, "Settings"), element("pre", { class: "code", tabindex: 0 }, JSON.stringify(plugin.settings, null, 2))])
            : null,
    ])));
}

const ROUTES = [
    { title: "Route", cell: (row) => row.name },
    { title: "Prefix", cell: (row) => element("code", {}, row.prefix || "/") },
    { title: "Pipeline", cell: (row) => row.pipeline },
    { title: "Operations", cell: (row) => row.operations?.join(", ") ?? "all" },
    { title: "When the reader leaves", cell: (row) => row.on_disconnect },
    { title: "Resumable", cell: (row) => (row.resumable ? "yes" : "no") },
    { title: "Default model", cell: (row) => known(row.default_model, "none") },
];
