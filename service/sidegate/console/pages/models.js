// Where models lead, what they cost, and whether a target rests.

import { ask } from "../api.js";
import { element, fill } from "../element.js";
import { price } from "../money.js";
import { table } from "../tables.js";
import { known, tag } from "../words.js";

export async function show({ page, signal }) {
    const models = await ask("/admin/models", { signal });
    const rows = models.data.flatMap((model) => model.targets.map((target, at) => ({ model, target, at })));
    fill(page, element("section", { class: "sheet", "aria-label": "Models" }, [
        rows.length ? table("Models", COLUMNS, rows) : element("p", { class: "empty" }, "The config names no model."),
        element("p", { class: "hint" }, "Prices are dollars for a million tokens, input and output."),
    ]));
}

function prices(target, part) {
    return target.prices.map(({ pipeline, rates }) => element("div", {}, [
        // What a name costs that is passed on is known when it is asked for.
        known(price(rates?.[part]), rates ? "–" : target.model === null ? "by name" : "unknown"),
        target.prices.length > 1 ? element("span", { class: "hint" }, ` ${pipeline ?? "lists"}`) : null,
    ]));
}

const COLUMNS = [
    { title: "Model", cell: ({ model, at }) => (at ? "" : model.name) },
    { title: "Targets are", cell: ({ model, at }) => (at || model.targets.length < 2 ? "" : model.strategy) },
    { title: "Provider", cell: ({ target }) => target.provider },
    { title: "Asked as", cell: ({ target }) => known(target.model, "as asked") },
    { title: "Weight", number: true, cell: ({ target, model }) => (model.strategy === "weighted" ? target.weight : "–") },
    { title: "Input", number: true, cell: ({ target }) => prices(target, "input") },
    { title: "Output", number: true, cell: ({ target }) => prices(target, "output") },
    { title: "Circuit", cell: ({ target }) => (target.circuit === null ? "–" : tag(target.circuit)) },
];
