// Budgets, with what is left of them.

import { ask, query } from "../api.js";
import { bar } from "../charts.js";
import { element, fill } from "../element.js";
import { roughly, share } from "../money.js";
import { table } from "../tables.js";
import { amount, known, span, tag, when } from "../words.js";

export async function show({ page, signal }) {
    const rows = [];
    const list = element("div");
    const more = element("button", { type: "button", hidden: true }, "More");
    fill(page, element("section", { class: "sheet", "aria-label": "Budgets" }, [list, more]));
    let after = null;
    const load = async () => {
        const answer = await ask(`/admin/budgets${query({ limit: 100, after })}`, { signal });
        rows.push(...answer.data);
        after = answer.next;
        more.hidden = after === null;
        fill(list, rows.length ? table("Budgets", COLUMNS, rows) : empty());
    };
    more.addEventListener("click", () => load().catch((error) => fill(list, element("p", { class: "problem", role: "alert" }, error.message))));
    await load();
}

function empty() {
    const text = `- use: cost
  settings:
    budgets:
      - {name: per-caller, amount_usd: 20, period: month}`;
    return element("div", { class: "empty" }, [
        element("p", {}, "No budget is set. A pipeline's plugin cost sets them for all, and a key brings its own:"),
        element("pre", { class: "code", tabindex: 0 }, text),
    ]);
}

/** How long what is left has to last. */
function pace(row) {
    if (row.resets_at === null) return "rolling";
    const left = (Date.parse(row.resets_at) - Date.now()) / 1000;
    return element("time", { datetime: row.resets_at, title: when(row.resets_at).title }, `in ${span(Math.max(0, left))}`);
}

function left(row) {
    const gone = row.left_nano_usd !== null && roughly(row.left_nano_usd) <= 0;
    return [amount(row.left_nano_usd), gone ? element("div", {}, tag(row.hard ? "used up" : "over", "bad")) : null];
}

const COLUMNS = [
    { title: "Budget", cell: (row) => [row.budget, row.pipeline ? element("div", { class: "hint" }, `pipeline ${row.pipeline}`) : null] },
    { title: "Of", cell: (row) => (row.subject === null ? known(null, "nobody yet") : row.subject.join(", ") || "all together") },
    { title: "Period", short: true, cell: (row) => row.period },
    { title: "Left", number: true, cell: left },
    {
        title: "Used and held",
        cell: (row) => {
            const [spent, held] = [row.spent_nano_usd, row.held_nano_usd].map((part) => share(part, row.limit_nano_usd));
            return row.limit_nano_usd === null ? "" : bar([spent, Math.min(held, 1 - spent)], spent >= 1 ? "over" : "");
        },
    },
    { title: "Spent", number: true, cell: (row) => amount(row.spent_nano_usd) },
    { title: "Held", number: true, cell: (row) => amount(row.held_nano_usd) },
    { title: "Limit", number: true, cell: (row) => amount(row.limit_nano_usd) },
    { title: "Beyond what was held", number: true, cell: (row) => amount(row.overshoot_nano_usd) },
    { title: "Kind", short: true, cell: (row) => (row.hard === null ? known(null) : row.hard ? "hard" : "soft") },
    { title: "Begins anew", short: true, cell: pace },
];
