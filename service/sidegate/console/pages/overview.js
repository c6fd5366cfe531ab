// What goes on now.

import { ask } from "../api.js";
import { bar, Lines } from "../charts.js";
import { element, fill, say } from "../element.js";
import { Flight, tryIt } from "../flight.js";
import { live } from "../live.js";
import { table } from "../tables.js";
import { count, rough, span, tag, when } from "../words.js";

const PERCENTILES = [
    { name: "p50", colour: "--series-1", at: "p50" },
    { name: "p95", colour: "--series-2", at: "p95" },
    { name: "p99", colour: "--series-5", at: "p99" },
];
const CHARTS = [
    ["Calls per second", [{ name: "ended", colour: "--series-1", of: (now) => now.calls_per_second }], rough],
    ["Tokens per second", [
        { name: "output", colour: "--series-1", of: (now) => now.tokens_per_second.output },
        { name: "input", colour: "--series-2", of: (now) => now.tokens_per_second.input },
    ], rough],
    ["Time to first token", PERCENTILES.map((each) => ({ ...each, of: (now) => now.first_token_seconds?.[each.at] ?? null })), span],
    ["Time per token", PERCENTILES.map((each) => ({ ...each, of: (now) => now.per_token_seconds?.[each.at] ?? null })), span],
    ["In flight", [{ name: "calls", colour: "--series-1", of: (now) => now.in_flight }], rough],
];
const STATUS_MS = 10_000;

export async function show({ page, signal }) {
    const tiles = new Tiles();
    const charts = CHARTS.map(([title, series, told]) => new Lines(title, series, { say: told }));
    const endings = element("div");
    const flight = new Flight(element("div", { class: "empty" }, "No call is in flight."));
    const state = element("div", { class: "row hint" });
    const troubles = element("div", { class: "page", hidden: true });
    signal.addEventListener("abort", () => charts.forEach((chart) => chart.close()));
    fill(page,
        state,
        troubles,
        tiles.node,
        element("section", { class: "sheet", "aria-labelledby": "flying" }, [
            element("div", { class: "row spread" }, [
                element("h2", { id: "flying" }, "In flight"), element("a", { href: "#/calls" }, "All calls"),
            ]),
            flight.node,
        ]),
        element("div", { class: "grid" }, [
            charts.map((chart) => chart.node),
            element("section", { class: "sheet", "aria-labelledby": "endings" }, [element("h2", { id: "endings" }, "Calls by ending, since the start"), endings]),
        ]),
    );
    let url = null;
    let told = "";
    const draw = () => {
        const { now, samples } = live;
        if (now === null) return;
        tiles.show(now);
        flight.show(now.calls);
        const times = samples.map((each) => each.seconds);
        charts.forEach((chart, at) => chart.show([times, ...CHARTS[at][1].map((series) => samples.map(series.of))]));
        const said = JSON.stringify([now.by_ending, url]);
        if (said !== told) fill(endings, byEnding(now.by_ending, url));
        told = said;
    };
    const look = async () => {
        const status = await ask("/admin/status", { signal });
        url = status.urls.find((each) => each.startsWith("http")) ?? null;
        fill(state, ...stateOf(status));
        const wrong = troublesOf(status);
        troubles.hidden = wrong.length === 0;
        fill(troubles, wrong.map((text) => element("p", { class: "notice" }, text)));
        draw();
    };
    live.on("now", draw, signal);
    draw();
    const timer = setInterval(() => look().catch(() => {}), STATUS_MS);
    signal.addEventListener("abort", () => clearInterval(timer));
    await look();
}

class Tiles {
    #parts = new Map();

    constructor() {
        this.node = element("dl", { class: "grid narrow" }, [
            ["in_flight", "In flight"], ["calls", "Calls per second"], ["tokens", "Output tokens per second"],
            ["first", "Time to first token, p50"], ["per", "Time per token, p50"], ["total", "Calls since the start"],
        ].map(([name, title]) => this.#tile(name, title)));
    }

    #tile(name, title) {
        const value = element("span", {}, "–");
        const more = element("div", { class: "more" }, " ");
        this.#parts.set(name, [value, more]);
        return element("div", { class: "sheet tile" }, [element("dt", {}, title), element("dd", {}, [value, more])]);
    }

    #say(name, value, more) {
        const [first, second] = this.#parts.get(name);
        say(first, value ?? "–");
        say(second, more);
    }

    show(now) {
        const { first_token_seconds: first, per_token_seconds: per } = now;
        this.#say("in_flight", count(now.in_flight), now.draining ? "draining: no new calls" : `rows on their way to the ledger: ${count(now.ledger_waiting)}`);
        this.#say("calls", rough(now.calls_per_second), `loop ${span(now.lag_seconds)} late`);
        this.#say("tokens", rough(now.tokens_per_second.output), `${rough(now.tokens_per_second.input)} input`);
        this.#say("first", first && span(first.p50), percentiles(first));
        this.#say("per", per && span(per.p50), percentiles(per));
        this.#say("total", count(now.calls_total), `${count(now.calls_total - (now.by_ending.complete ?? 0))} not complete`);
    }
}

function percentiles(found) {
    if (!found) return "no call yet";
    const over = found.over_seconds === null ? "since the start" : `last ${span(Math.round(found.over_seconds))}`;
    return `p95 ${span(found.p95)}, p99 ${span(found.p99)}, ${over}`;
}

function byEnding(found, url) {
    const rows = Object.entries(found).filter(([, calls]) => calls > 0).sort((one, other) => other[1] - one[1]);
    if (!rows.length) return element("div", { class: "empty" }, [element("p", {}, "No call yet."), tryIt(url)]);
    const most = rows[0][1];
    return table("Calls by ending", [
        { title: "Ending", cell: ([name]) => element("a", { href: `#/calls?ending=${encodeURIComponent(name)}` }, tag(name)) },
        { title: "Calls", number: true, cell: ([, calls]) => count(calls) },
        { title: "Share", unseen: true, cell: ([, calls]) => bar([calls / most]) },
    ], rows);
}

function stateOf(status) {
    const ready = status.draining ? tag("draining", "warn") : tag(status.ready ? "ready" : "not ready", status.ready ? "good" : "bad");
    return [
        ready,
        ...[
            `Sidegate ${status.version}`, `up ${span(status.uptime_seconds)}`, `process ${status.process_id}`,
            status.workers > 1 ? `one of ${status.workers} workers: figures are of this one` : null,
            [`config ${status.reload.generation}, in force since `, when(status.reload.loaded_at)],
        ].filter(Boolean).map((each) => element("span", {}, each)),
    ];
}

function troublesOf(status) {
    return [
        status.ledger.room ? null : "The ledger has no room: new calls are refused.",
        status.ledger.problem && `The ledger: ${status.ledger.problem}`,
        status.counters.trouble && `The shared store: ${status.counters.trouble}`,
        status.reload.error && `The last reload failed: ${status.reload.error}`,
    ].filter(Boolean);
}
