// One call: what is on record of it, its attempts, and what each plugin did to it.

import { ask } from "../api.js";
import { element, fill, styled } from "../element.js";
import { stopButton } from "../flight.js";
import { facts, table } from "../tables.js";
import { price } from "../money.js";
import { amount, count, known, span, tag, when } from "../words.js";

const AGAIN_MS = 1000;

export async function showCall({ page, heading, rest, signal }) {
    const [id] = rest;
    heading.textContent = `Call ${id.slice(-10)}`;
    document.title = `${heading.textContent} · Sidegate`;
    const place = element("div", { class: "page" });
    const problem = element("p", { class: "problem", role: "alert", hidden: true });
    const report = (why) => {
        problem.hidden = !why;
        problem.textContent = why;
    };
    fill(page, element("p", { class: "row" }, [element("a", { href: "#/calls" }, "All calls"), element("code", {}, id)]), problem, place);
    const now = element("div");
    const look = async () => {
        const found = await ask(`/admin/calls/${encodeURIComponent(id)}`, { signal });
        if (found.state !== "in_flight") return void fill(place, over(found));
        // Once: what is asked for again each second takes the focus from nobody.
        if (!now.isConnected) fill(place, running(stopButton(found, report, () => look()), now));
        fill(now, flying(found));
        setTimeout(() => signal.aborted || look().catch((error) => report(error.message)), AGAIN_MS);
    };
    await look();
}

function running(stop, now) {
    return element("section", { class: "sheet", "aria-label": "In flight" }, [element("div", { class: "row spread" }, [tag("in_flight"), stop]), now]);
}

function flying(row) {
    return facts([
        ["Caller", row.caller], ["Model", row.model], ["Provider", row.provider ?? "–"], ["Route", row.route],
        ["Dialect", row.dialect], ["Delivery", row.delivery], ["Began", when(row.started_at)], ["For", span(row.duration)],
        ["First token", span(row.first_token) ?? "–"], ["Attempts", count(row.attempts)],
        ["Input tokens", known(count(row.input_tokens))], ["Output tokens", known(count(row.output_tokens))],
        ["Cost so far", amount(row.cost_nano_usd)],
    ]);
}

function over(row) {
    const told = row.estimated ? "≈ " : "";
    return [
        element("section", { class: "sheet", "aria-label": "What is on record" }, [
            element("div", { class: "row" }, [tag(row.ending), tag(row.state), row.error ? element("code", {}, row.error) : null, row.plugin ? `by the plugin ${row.plugin}` : null]),
            facts([
                ["Cost", row.attempts.length ? amount(row.cost_nano_usd) : "no attempt, no cost"],
                ["Input tokens", row.attempts.length ? known(row.input_tokens === null ? null : told + count(row.input_tokens)) : "–"],
                ["Output tokens", row.attempts.length ? known(row.output_tokens === null ? null : told + count(row.output_tokens)) : "–"],
                ["First token", span(row.first_token) ?? "–"],
                ["Took", span(row.duration)],
                ["Began", when(row.started_at)],
                ["Caller", row.caller], ["Key", row.key_id ?? "–"], ["Team", row.team ?? "–"], ["End user", row.end_user ?? "–"],
                ["Tags", row.tags.join(", ") || "–"],
                ["Model asked for", row.model_asked], ["Model served", row.model_served ?? "–"], ["Provider", row.provider ?? "–"],
                ["Route", row.route], ["Operation", row.operation], ["Dialect", row.dialect], ["Delivery", row.delivery],
                ["HTTP status", count(row.status)], ["Settled", when(row.settled_at) ?? "–"],
                ...MORE.filter(([, name]) => row[name] !== null).map(([title, name]) => [title, count(row[name])]),
            ]),
        ]),
        attempts(row.attempts),
        trailOf(row.trail),
    ];
}

const MORE = [
    ["Cache read", "cache_read_tokens"], ["Cache written", "cache_write_tokens"], ["Reasoning", "reasoning_tokens"],
    ["Audio in", "audio_input_tokens"], ["Audio out", "audio_output_tokens"],
];

/** The tries at providers. */
export function attempts(rows) {
    const columns = [
        { title: "#", cell: (row) => row.number },
        { title: "Provider", cell: (row) => row.provider },
        { title: "Target", cell: (row) => row.target },
        { title: "Status", number: true, cell: (row) => row.status ?? "–" },
        { title: "Ending", cell: (row) => [tag(row.ending), row.error ? element("div", { class: "hint" }, row.error) : null] },
        { title: "Finish", cell: (row) => row.finish ?? "–" },
        { title: "In", number: true, cell: (row) => known(count(row.input_tokens)) },
        { title: "Out", number: true, cell: (row) => known(count(row.output_tokens)) },
        { title: "Cost", number: true, cell: (row) => amount(row.cost_nano_usd) },
        { title: "Rates in, out", cell: (row) => rates(row) },
        { title: "First token", number: true, cell: (row) => span(row.first_token) ?? "–" },
        { title: "Took", number: true, cell: (row) => span(row.duration) },
    ];
    return element("section", { class: "sheet", "aria-labelledby": "attempts" }, [
        element("h2", { id: "attempts" }, "Attempts"),
        rows.length ? table("Attempts", columns, rows) : element("p", { class: "empty" }, "No provider was asked."),
    ]);
}

/** Dollars for a million tokens, by kind, as they were. */
function rates(row) {
    if (row.rates === null) return known(null, row.cost_nano_usd === 0 ? "–" : "unknown");
    const found = Object.entries(JSON.parse(row.rates)).filter(([, value]) => typeof value === "number");
    const lines = found.map(([kind, value]) => element("div", { class: "hint" }, `${kind.replaceAll("_", " ")} ${price(value)}`));
    return element("details", {}, [element("summary", {}, found.slice(0, 2).map(([, value]) => price(value)).join(", ")), lines]);
}

/** What each plugin did, and when. */
export function trailOf(trail) {
    const heading = element("h2", { id: "trail" }, "Trail");
    if (!trail) {
        const why = "Nothing is remembered of what plugins did to this call: a process knows its last ones alone.";
        return element("section", { class: "sheet", "aria-labelledby": "trail" }, [heading, element("p", { class: "empty" }, why)]);
    }
    const whole = trail.total_seconds || 1;
    const columns = [
        { title: "Plugin", cell: (row) => row.name },
        { title: "What it did", cell: (row) => tag(row.outcome) },
        { title: "Looked and changed by", cell: (row) => row.stages.join(", ") || "–" },
        { title: "Own time", number: true, cell: (row) => span(row.seconds) ?? "–" },
    ];
    const tries = [
        { title: "Attempt", cell: (row) => `${row.number}: ${row.provider}, ${row.target}` },
        { title: "Began after", number: true, cell: (row) => span(row.begun_seconds) },
        { title: "First token after", number: true, cell: (row) => span(row.first_token_seconds) ?? "–" },
        { title: "Took", number: true, cell: (row) => span(row.seconds) },
        { title: "On the call's time", unseen: true, cell: (row) => way(row, whole) },
    ];
    return element("section", { class: "sheet", "aria-labelledby": "trail" }, [
        heading,
        facts([
            ["Pipeline", trail.pipeline], ["In all", span(trail.total_seconds)], ["First token to the client", span(trail.first_token_seconds) ?? "–"],
            ["In attempts", span(trail.attempt_seconds)], ["Elsewhere: gateway, pauses, readers", span(trail.other_seconds)],
        ]),
        table("What each plugin did", columns, trail.plugins),
        trail.attempts.length ? table("Attempts in time", tries, trail.attempts) : null,
    ]);
}

function way(row, whole) {
    const first = row.first_token_seconds ?? row.seconds;
    return element("div", { class: "way", "aria-hidden": "true" }, [
        styled(element("span", { class: "wait" }), { "--from": row.begun_seconds / whole, "--share": first / whole }),
        styled(element("span"), { "--from": (row.begun_seconds + first) / whole, "--share": Math.max(0, row.seconds - first) / whole }),
    ]);
}
