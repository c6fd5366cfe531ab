// Calls: those in flight everywhere, and what the ledger has; or one of them.

import { ask, query } from "../api.js";
import { element, field, choice, fill } from "../element.js";
import { callLink, Flight, tryIt } from "../flight.js";
import { table } from "../tables.js";
import { amount, count, known, shortly, span, tag, when } from "../words.js";
import { showCall } from "./call.js";

const FLIGHT_MS = 2000;
const ROWS = 50;
const STATES = [["", "all that are over"], ["settled", "settled"], ["unknown", "unknown, to be reconciled"], ["reserved", "reserved"]];
const ENDINGS = [
    "", "complete", "provider_error", "cut", "stalled", "client_gone", "cancelled", "timed_out", "refused", "gateway_stopping",
].map((each) => [each, each.replaceAll("_", " ") || "any"]);
const SPANS = [["", "any time"], ["1h", "the last hour"], ["1d", "the last day"], ["7d", "the last 7 days"], ["30d", "the last 30 days"]];
const TEXTS = [["caller", "Caller"], ["model", "Model"], ["provider", "Provider"], ["end_user", "End user"], ["team", "Team"], ["error", "Error"]];

export async function show(context) {
    if (context.rest.length) return showCall(context);
    const { page, parameters, signal } = context;
    const flight = new Flight(element("p", { class: "empty" }, "No call is in flight."));
    const note = element("p", { class: "notice", hidden: true }, "Not all gateways answered: there may be more.");
    const found = element("div", { "aria-busy": "true" });
    fill(page,
        element("section", { class: "sheet", "aria-labelledby": "flying" }, [element("h2", { id: "flying" }, "In flight"), note, flight.node]),
        element("section", { class: "sheet", "aria-labelledby": "over" }, [element("h2", { id: "over" }, "On record"), filters(parameters), found]),
    );
    const look = async () => {
        const flying = await ask("/admin/calls?state=in_flight&limit=200", { signal });
        flight.show(flying.data);
        note.hidden = flying.complete;
    };
    const timer = setInterval(() => document.hidden || look().catch(() => {}), FLIGHT_MS);
    signal.addEventListener("abort", () => clearInterval(timer));
    await Promise.all([look(), record(found, parameters, signal)]);
}

function filters(parameters) {
    const selects = [["state", "State", STATES], ["ending", "Ending", ENDINGS], ["since", "Began in", SPANS]].map(([name, label, options]) => {
        const asked = parameters.get(name) ?? "";
        const all = options.some(([value]) => value === asked) ? options : [...options, [asked, asked]];
        return field(label, choice(all, asked, { name }));
    });
    const texts = TEXTS.map(([name, label]) => field(label, element("input", { name, value: parameters.get(name) ?? "", autocomplete: "off", spellcheck: "false" })));
    const form = element("form", { class: "fields", role: "search", "aria-label": "Calls on record" }, [
        selects, texts,
        element("div", { class: "row" }, [element("button", { type: "submit", class: "first" }, "Show"), element("a", { href: "#/calls", class: "button" }, "Clear")]),
    ]);
    form.addEventListener("submit", (event) => {
        event.preventDefault();
        const wanted = `#/calls${query(Object.fromEntries(new FormData(form)))}`;
        if (location.hash === wanted) window.dispatchEvent(new Event("hashchange"));
        else location.hash = wanted;
    });
    return form;
}

async function record(place, parameters, signal) {
    const rows = [];
    const asked = Object.fromEntries(parameters);
    const more = element("button", { type: "button" }, "Older ones");
    const problem = element("p", { class: "problem", role: "alert", hidden: true });
    const list = element("div");
    let after = null;
    const load = async () => {
        more.disabled = true;
        problem.hidden = true;
        try {
            const answer = await ask(`/admin/calls${query({ ...asked, limit: ROWS, after })}`, { signal });
            rows.push(...answer.data);
            after = answer.next;
            fill(list, rows.length ? table("Calls on record", COLUMNS, rows) : await nothing(asked, signal));
        } catch (error) {
            if (signal.aborted) return;
            problem.textContent = error.message;
            problem.hidden = false;
        }
        more.disabled = false;
        more.hidden = after === null;
    };
    more.addEventListener("click", load);
    more.hidden = true;
    fill(place, problem, list, more);
    await load();
    place.removeAttribute("aria-busy");
}

async function nothing(asked, signal) {
    if (Object.keys(asked).length) return element("p", { class: "empty" }, "No call on record is like that.");
    const status = await ask("/admin/status", { signal });
    return element("div", { class: "empty" }, [element("p", {}, "No call yet."), tryIt(status.urls.find((each) => each.startsWith("http")))]);
}

const COLUMNS = [
    { title: "Call", short: true, cell: callLink },
    { title: "Began", short: true, cell: (row) => when(row.started_at) },
    { title: "Caller", cell: (row) => [shortly(row.caller), row.end_user ? element("div", { class: "hint" }, shortly(row.end_user)) : null] },
    { title: "Model", cell: (row) => [shortly(row.model_asked), row.operation === "chat" ? null : element("div", { class: "hint" }, row.operation)] },
    { title: "Provider", cell: (row) => row.provider ?? "–" },
    { title: "Ending", cell: (row) => [tag(row.ending), row.error && row.error !== row.ending ? element("div", { class: "hint" }, row.error) : null] },
    { title: "In", number: true, cell: (row) => known(count(row.input_tokens), row.provider ? "unknown" : "–") },
    { title: "Out", number: true, cell: (row) => known(count(row.output_tokens), row.provider ? "unknown" : "–") },
    { title: "Cost", number: true, cell: (row) => (row.provider ? amount(row.cost_nano_usd) : "–") },
    { title: "First token", number: true, cell: (row) => span(row.first_token) ?? "–" },
    { title: "Took", number: true, cell: (row) => span(row.duration) },
];
