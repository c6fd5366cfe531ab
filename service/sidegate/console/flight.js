// Calls in flight, with buttons that stop them.

import { ask } from "./api.js";
import { element } from "./element.js";
import { Kept } from "./tables.js";
import { amount, count, known, shortly, span, tag } from "./words.js";

/** A table of them, and where it says what went wrong. */
export class Flight {
    #problem = element("p", { class: "problem", role: "alert", hidden: true });
    #table = new Kept("Calls in flight", [
        { title: "Call", short: true, stays: true, cell: callLink },
        { title: "Caller", stays: true, cell: (row) => shortly(row.caller) },
        { title: "Model", stays: true, cell: (row) => shortly(row.model) },
        { title: "Provider", cell: (row) => row.provider ?? "–" },
        { title: "Delivery", short: true, stays: true, cell: (row) => row.delivery },
        { title: "For", number: true, cell: (row) => span(row.duration) },
        { title: "First token", number: true, cell: (row) => span(row.first_token) ?? "–" },
        { title: "In", number: true, cell: (row) => tokens(row.input_tokens, row) },
        { title: "Out", number: true, cell: (row) => tokens(row.output_tokens, row) },
        { title: "Cost so far", number: true, cell: (row) => amount(row.cost_nano_usd) },
        { title: "Stop", unseen: true, number: true, stays: true, cell: (row) => stopButton(row, (why) => this.#say(why)) },
    ]);

    constructor(empty) {
        this.empty = empty;
        this.node = element("div", {}, [this.#problem, this.empty, this.#table.node]);
        this.show([]);
    }

    show(rows) {
        this.#table.show(rows);
        this.#table.node.hidden = rows.length === 0;
        this.empty.hidden = rows.length > 0;
    }

    #say(why) {
        this.#problem.hidden = !why;
        this.#problem.textContent = why;
    }
}

/** A call's id, short, leading to it. */
export function callLink(row) {
    return element("a", { href: `#/calls/${row.id}`, class: "mono", title: row.id }, `…${row.id.slice(-10)}`);
}

/** Stops a call, and says what came of it to `report`. */
export function stopButton(row, report, stopped = () => {}) {
    const button = element("button", { type: "button", class: "stop", "aria-label": `Stop call ${row.id.slice(-10)} of ${row.caller}` }, "Stop");
    button.addEventListener("click", async () => {
        button.disabled = true;
        report("");
        try {
            stopped(await ask(`/admin/calls/${row.id}`, { method: "DELETE" }));
        } catch (error) {
            report(error.message);
            button.disabled = false;
        }
    });
    return button;
}

function tokens(value, row) {
    return value === null ? known(null) : `${row.estimated ? "≈ " : ""}${count(value)}`;
}

/** What to do where there is nothing to see. */
export function tryIt(url) {
    const line = `curl -N ${url ?? "http://127.0.0.1:8080"}/v1/chat/completions \\
  -H "Authorization: Bearer $SIDEGATE_KEY" -H 'Content-Type: application/json' \\
  -d '{"model":"demo","stream":true,"messages":[{"role":"user","content":"Hello"}]}'`;
    return [
        element("p", {}, ["Ask something in the ", element("a", { href: "#/playground" }, "playground"), ", or by:"]),
        element("pre", { class: "code", tabindex: 0 }, line),
    ];
}

