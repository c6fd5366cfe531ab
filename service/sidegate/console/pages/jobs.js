// Jobs of all callers.

import { ask, query } from "../api.js";
import { choice, element, field, fill } from "../element.js";
import { table } from "../tables.js";
import { amount, count, known, shortly, tag, when } from "../words.js";

const STATES = ["", "queued", "running", "completed", "failed", "cancelled", "expired"].map((name) => [name, name || "any"]);

export async function show({ page, parameters, signal }) {
    const asked = { state: parameters.get("state") ?? "", caller: parameters.get("caller") ?? "" };
    const problem = element("p", { class: "problem", role: "alert", hidden: true });
    const list = element("div");
    const more = element("button", { type: "button", hidden: true }, "Older ones");
    fill(page, element("section", { class: "sheet", "aria-label": "Jobs" }, [form(asked), problem, list, more]));
    const report = (why) => {
        problem.hidden = !why;
        problem.textContent = why;
    };
    let rows = [];
    let after = null;
    const load = async (anew) => {
        report("");
        try {
            const answer = await ask(`/admin/jobs${query({ ...asked, limit: 50, after: anew ? null : after })}`, { signal });
            rows = anew ? answer.data : [...rows, ...answer.data];
            after = answer.next;
            more.hidden = after === null;
            const columns = [...COLUMNS, { title: "Cancel", unseen: true, number: true, cell: (row) => cancel(row, report, () => load(true)) }];
            fill(list, rows.length ? table("Jobs", columns, rows) : element("p", { class: "empty" }, "No such job. A client asks for one with the header Prefer: respond-async."));
        } catch (error) {
            if (signal.aborted) return;
            if (error.code === "jobs_off") fill(list, element("p", { class: "empty" }, ["This gateway accepts no jobs. Set ", element("code", {}, "jobs: {}"), " in its config."]));
            else report(error.message);
        }
    };
    more.addEventListener("click", () => load(false));
    await load(true);
}

function form(asked) {
    const made = element("form", { class: "fields", "aria-label": "Which jobs" }, [
        field("State", choice(STATES, asked.state, { name: "state" })),
        field("Caller", element("input", { name: "caller", value: asked.caller, autocomplete: "off", spellcheck: "false" })),
        element("div", {}, element("button", { type: "submit", class: "first" }, "Show")),
    ]);
    const go = (event) => {
        event.preventDefault();
        location.hash = `#/jobs${query(Object.fromEntries(new FormData(made)))}`;
    };
    made.addEventListener("submit", go);
    made.elements.state.addEventListener("change", go);
    return made;
}

function cancel(row, report, done) {
    if (row.state !== "queued" && row.state !== "running") return "";
    const button = element("button", { type: "button", class: "stop", "aria-label": `Cancel job ${row.id.slice(-10)} of ${row.caller}` }, "Cancel");
    button.addEventListener("click", async () => {
        button.disabled = true;
        try {
            await ask(`/admin/jobs/${row.id}`, { method: "DELETE" });
            await done();
        } catch (error) {
            report(error.message);
            button.disabled = false;
        }
    });
    return button;
}

const COLUMNS = [
    { title: "Job", short: true, cell: (row) => element("span", { class: "mono", title: row.id }, `…${row.id.slice(-10)}`) },
    { title: "State", cell: (row) => [tag(row.state), row.error?.code ? element("div", { class: "hint" }, row.error.code) : null] },
    { title: "Caller", cell: (row) => shortly(row.caller) },
    { title: "Model", cell: (row) => shortly(row.model) },
    { title: "Runs", number: true, cell: (row) => count(row.generation) },
    { title: "Events", number: true, cell: (row) => count(row.progress.events) },
    { title: "Out", number: true, cell: (row) => known(count(row.progress.output_tokens)) },
    { title: "Cost", number: true, cell: (row) => amount(row.cost_nano_usd) },
    { title: "Submitted", short: true, cell: (row) => when(row.created_at) },
    { title: "Ended", short: true, cell: (row) => when(row.ended_at) ?? "–" },
    { title: "Call", short: true, cell: (row) => (row.call ? element("a", { href: `#/calls/${row.call}`, class: "mono" }, `…${row.call.slice(-10)}`) : "–") },
];
