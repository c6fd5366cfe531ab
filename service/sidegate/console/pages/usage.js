// Who used what, and what it cost: from the ledger's reports.

import { ask, query } from "../api.js";
import { bar, Bars } from "../charts.js";
import { choice, element, field, fill } from "../element.js";
import { usdText } from "../money.js";
import { table } from "../tables.js";
import { count, known, rough, shortly, span } from "../words.js";

const SPANS = [["24h", "24 hours"], ["7d", "7 days"], ["30d", "30 days"], ["90d", "90 days"]];
const DIMENSIONS = ["model", "caller", "team", "provider", "end_user", "route", "operation", "ending"].map((name) => [name, name.replace("_", " ")]);
const MEASURES = {
    cost: ["Cost", (row) => (row.cost_usd === null ? null : Number(row.cost_usd)), dollars],
    calls: ["Calls", (row) => row.calls, rough],
    output: ["Output tokens", (row) => row.output_tokens, rough],
    input: ["Input tokens", (row) => row.input_tokens, rough],
};
const MS = { day: 86_400_000, hour: 3_600_000 };
const COLOURS = ["--series-1", "--series-2", "--series-3", "--series-4", "--series-5"];

export async function show({ page, parameters, signal }) {
    const asked = {
        by: parameters.get("by") ?? "model", since: parameters.get("since") ?? "7d", measure: parameters.get("measure") ?? "cost",
    };
    if (!(asked.measure in MEASURES)) asked.measure = "cost";
    const result = element("div", { class: "page", "aria-busy": "true" }, element("p", { class: "hint" }, "Summing up…"));
    fill(page, form(asked), result);
    const step = asked.since === "24h" ? "hour" : "day";
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
    const base = { since: asked.since, timezone: zone };
    const [times, names] = await Promise.all([
        ask(`/admin/usage${query({ ...base, by: `${step},${asked.by}` })}`, { signal }),
        ask(`/admin/usage${query({ ...base, by: asked.by })}`, { signal }),
    ]);
    if (signal.aborted) return;
    result.removeAttribute("aria-busy");
    if (!names.data.length) {
        return void fill(result, element("div", { class: "sheet empty" }, ["No call in this time. ", element("a", { href: "#/playground" }, "Make one in the playground.")]));
    }
    const chart = over(times, names, step, asked);
    signal.addEventListener("abort", () => chart.close());
    fill(result,
        chart.node,
        times.truncated || names.truncated ? element("p", { class: "notice" }, "There are more rows than are told; the total is of all.") : null,
        element("section", { class: "sheet", "aria-label": "In numbers" }, [numbers(names, asked.by), notes(names.totals), csv({ ...base, by: asked.by })]),
    );
}

function form(asked) {
    const measures = Object.entries(MEASURES).map(([name, [title]]) => [name, title]);
    const made = element("form", { class: "fields sheet", "aria-label": "Report" }, [
        field("Show", choice(measures, asked.measure, { name: "measure" })),
        field("By", choice(DIMENSIONS, asked.by, { name: "by" })),
        field("Of the last", choice(SPANS, asked.since, { name: "since" })),
    ]);
    made.addEventListener("change", () => {
        location.hash = `#/usage${query(Object.fromEntries(new FormData(made)))}`;
    });
    return made;
}

/** The five that have most, and the rest together, over time. */
function over(times, names, step, asked) {
    const [title, measured, told] = MEASURES[asked.measure];
    const most = [...names.data].sort((one, other) => (measured(other) ?? 0) - (measured(one) ?? 0));
    const shown = most.slice(0, COLOURS.length).map((row) => row[asked.by]);
    const places = slots(times, step);
    const series = shown.map((name, at) => ({ name: shortly(name ?? "none", 32), colour: COLOURS[at] }));
    const rows = shown.map((name) => line(times.data, places, step, measured, (row) => row[asked.by] === name));
    if (most.length > shown.length) {
        series.push({ name: "others", colour: "--series-6" });
        rows.push(line(times.data, places, step, measured, (row) => !shown.includes(row[asked.by])));
    }
    const chart = new Bars(`${title} by ${step} and ${asked.by.replace("_", " ")}`, series, { say: told });
    chart.show([places.map(({ label }) => label), ...rows]);
    return chart;
}

/** All days, or hours, of the report, those without a call too. */
function slots(report, step) {
    const made = [];
    const until = Date.parse(report.until);
    for (const at = new Date(report.since); at.getTime() < until + MS[step]; at.setTime(at.getTime() + MS[step])) {
        const name = slot(at, step);
        if (at.getTime() <= until || name === slot(new Date(until - 1), step)) made.push(name);
    }
    const names = [...new Set(made)];
    return names.map((name) => ({ name, label: step === "day" ? name.slice(5) : name.slice(11, 16) }));
}

/** As the browser's own zone has it, which the report was asked for in. */
function slot(at, step) {
    const local = new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString();
    return step === "day" ? local.slice(0, 10) : local.slice(0, 13) + ":00";
}

function line(rows, places, step, measured, fits) {
    const at = new Map(places.map(({ name }, index) => [name, index]));
    const sums = places.map(() => null);
    for (const row of rows.filter(fits)) {
        const value = measured(row);
        const index = at.get(step === "day" ? row.day : slot(new Date(row.hour), "hour"));
        if (value !== null && index !== undefined) sums[index] = (sums[index] ?? 0) + value;
    }
    return sums;
}

function numbers(report, by) {
    const most = Math.max(...report.data.map((row) => Number(row.cost_usd ?? 0)), 0);
    return table(`Usage by ${by}`, [
        { title: by.replace("_", " "), cell: (row) => (row === report.totals ? "total" : known(row[by] === null ? null : shortly(row[by]), "none")) },
        { title: "Cost", number: true, cell: (row) => cost(row) },
        { title: "Share", unseen: true, cell: (row) => (row === report.totals || !most ? "" : bar([Number(row.cost_usd ?? 0) / most])) },
        { title: "Calls", number: true, cell: (row) => count(row.calls) },
        { title: "Not complete", number: true, cell: (row) => count(row.errors) },
        { title: "Input", number: true, cell: (row) => known(count(row.input_tokens)) },
        { title: "Output", number: true, cell: (row) => known(count(row.output_tokens)) },
        { title: "Took, mean", number: true, cell: (row) => span(row.duration) ?? "–" },
        { title: "First token, mean", number: true, cell: (row) => span(row.first_token) ?? "–" },
    ], report.data, { total: report.totals });
}

/** Where the cost of some calls is unknown, the sum is a lower bound. */
function cost(row) {
    if (row.cost_usd === null) return known(null);
    return `${row.cost_unknown ? "≥ " : ""}${usdText(row.cost_usd)}`;
}

function notes(totals) {
    return element("p", { class: "hint" }, [
        totals.cost_unknown ? `The cost of ${count(totals.cost_unknown)} calls is unknown, so not in the sums: ≥ is a lower bound. ` : null,
        totals.estimated ? `The tokens of ${count(totals.estimated)} calls are estimated in part. ` : null,
    ]);
}

function csv(asked) {
    const button = element("button", { type: "button" }, "Save as CSV");
    button.addEventListener("click", async () => {
        const { fetched } = await import("../api.js");
        const response = await fetched(`/admin/usage${query({ ...asked, format: "csv" })}`);
        const link = element("a", { href: URL.createObjectURL(await response.blob()), download: "usage.csv" });
        link.click();
        URL.revokeObjectURL(link.href);
    });
    return element("div", {}, button);
}

function dollars(value) {
    return `$${rough(value)}`;
}
