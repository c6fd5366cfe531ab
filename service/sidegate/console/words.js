// How numbers, times and states are said.

import { element } from "./element.js";
import { usd } from "./money.js";

const WHOLE = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const ROUGH = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });
const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

const UNITS = [["d", "h", 86400], ["h", "min", 3600], ["min", "s", 60]];
const TONES = {
    complete: "good", settled: "good", active: "good", passed: "good", closed: "good", completed: "good", answered: "good",
    in_flight: "live", running: "live", queued: "live", reserved: "live",
    client_gone: "warn", cancelled: "warn", unknown: "warn", refused: "warn", expired: "warn", stepped_over: "warn",
    half_open: "warn", stopped: "warn", stopping: "warn", not_reached: "",
};

/** A whole number. */
export function count(value) {
    return value === null || value === undefined ? null : WHOLE.format(value);
}

/** A number of which the first digits matter. */
export function rough(value) {
    if (value === null || value === undefined) return null;
    return value >= 1000 ? WHOLE.format(value) : ROUGH.format(value);
}

/** A time span, from seconds. */
export function span(seconds) {
    if (seconds === null || seconds === undefined) return null;
    if (seconds === 0) return "0 s";
    if (seconds < 0.0009995) return `${ROUGH.format(seconds * 1e6)} µs`;
    if (seconds < 0.9995) return `${ROUGH.format(seconds * 1e3)} ms`;
    if (seconds < 60) return `${ROUGH.format(seconds)} s`;
    const [large, small, size] = UNITS.find(([, , each]) => seconds >= each);
    const rest = Math.floor((seconds % size) / (size === 60 ? 1 : size === 3600 ? 60 : 3600));
    return `${Math.floor(seconds / size)} ${large}${rest ? ` ${rest} ${small}` : ""}`;
}

/** A moment, local; UTC on hover. */
export function when(iso) {
    if (!iso) return null;
    const date = new Date(iso);
    if (Number.isNaN(date.getTime())) return String(iso);
    const today = new Date().toDateString() === date.toDateString();
    const title = date.toISOString().replace("T", " ").replace("Z", " UTC");
    return element("time", { datetime: iso, title }, (today ? CLOCK : DAY).format(date));
}

/** What is said in the place of something that nobody knows. */
export function known(value, unknown = "unknown") {
    return value === null || value === undefined || value === "" ? element("span", { class: "unknown" }, unknown) : value;
}

/** An amount of money, or that it is unknown. */
export function amount(nano) {
    return known(usd(nano));
}

/** An ending or a state, with its colour; what is not known to be well is not. */
export function tag(word, tone = null) {
    return element("span", { class: `tag ${tone ?? TONES[word] ?? "bad"}` }, String(word).replaceAll("_", " "));
}

/** Names that may be long. */
export function shortly(text, most = 60) {
    return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}
