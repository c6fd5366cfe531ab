// Tables that scroll inside themselves, and say so to whoever cannot see it.

import { element, fill, say } from "./element.js";

/** `columns`: {title, cell(row), number, short}. Cells are text, elements, or lists of them. */
export function table(caption, columns, rows, { total = null } = {}) {
    const body = rows.map((row) => element("tr", {}, columns.map((column, at) => cell(column, row, at === 0))));
    if (total !== null) {
        body.push(element("tr", { class: "total" }, columns.map((column, at) => cell(column, total, at === 0))));
    }
    return scrolled(
        caption,
        element("table", {}, [element("caption", { class: "unseen" }, caption), heading(columns), element("tbody", {}, body)]),
    );
}

/** Can be scrolled with the keyboard too. */
function scrolled(label, inner) {
    return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label }, inner);
}

function heading(columns) {
    const cells = columns.map((column) => {
        const kind = column.number ? "number" : null;
        const title = column.unseen ? element("span", { class: "unseen" }, column.title) : column.title;
        return element("th", { scope: "col", class: kind }, title);
    });
    return element("thead", {}, element("tr", {}, cells));
}

function cell(column, row, first) {
    const kinds = [column.number && "number", column.short && "short", first && "name"].filter(Boolean).join(" ");
    return element("td", { class: kinds || null }, column.cell(row));
}

/** A table whose rows stay the same elements while what they say changes, so that the focus stays where it is. */
export class Kept {
    #rows = new Map();
    #columns;
    #body;

    constructor(caption, columns) {
        this.#columns = columns;
        this.#body = element("tbody");
        const name = element("caption", { class: "unseen" }, caption);
        this.node = scrolled(caption, element("table", {}, [name, heading(columns), this.#body]));
    }

    show(rows) {
        const wanted = new Set(rows.map((row) => row.id));
        for (const [id, kept] of this.#rows) {
            if (wanted.has(id)) continue;
            kept.node.remove();
            this.#rows.delete(id);
        }
        for (const row of rows) this.#row(row);
    }

    #row(row) {
        let kept = this.#rows.get(row.id);
        if (kept === undefined) {
            const cells = this.#columns.map((column, at) => cell(column, row, at === 0));
            kept = { node: element("tr", {}, cells), cells };
            this.#rows.set(row.id, kept);
            this.#body.append(kept.node);
            return;
        }
        this.#columns.forEach((column, at) => {
            if (column.stays) return;
            const now = column.cell(row);
            if (now instanceof Node) fill(kept.cells[at], now);
            else say(kept.cells[at], String(now ?? ""));
        });
    }
}

/** Pairs of a name and what is known. */
export function facts(pairs) {
    return element("dl", { class: "facts" }, pairs.map(([name, value]) => element("div", {}, [
        element("dt", {}, name),
        element("dd", {}, value ?? element("span", { class: "unknown" }, "unknown")),
    ])));
}
