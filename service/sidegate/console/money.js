// Money, exact: integers of nano-USD, which may be larger than a JavaScript number can hold. Unknown is unknown, never 0.

const LARGE = /"(\w+_nano_usd)":\s*(-?\d{16,})(?=[,}\]\s])/g;

/** JSON, with amounts beyond 2^53 as text. */
export function parse(text) {
    return JSON.parse(text.replace(LARGE, '"$1":"$2"'));
}

/** Nano-USD as dollars, with no more decimals than it has, and at least two. `null` where nobody knows. */
export function usd(nano) {
    if (nano === null || nano === undefined) return null;
    const amount = BigInt(nano);
    const sign = amount < 0n ? "-" : "";
    const digits = (amount < 0n ? -amount : amount).toString().padStart(10, "0");
    return `${sign}$${grouped(digits.slice(0, -9))}.${decimals(digits.slice(-9))}`;
}

/** Dollars as the reports tell them, in decimal text. */
export function usdText(text) {
    if (text === null || text === undefined) return null;
    const [, sign, whole, rest = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text) ?? [];
    return whole === undefined ? text : `${sign}$${grouped(whole)}.${decimals(rest)}`;
}

/** For the length of a bar and the height of a point, which need not be exact. */
export function roughly(nano) {
    return nano === null || nano === undefined ? null : Number(nano) / 1e9;
}

/** A price, nano-USD per million tokens, as dollars. */
export function price(nano) {
    return nano === null || nano === undefined ? null : usd(nano);
}

/** The share that a part is of a whole, from 0 to 1. */
export function share(part, whole) {
    const all = BigInt(whole ?? 0);
    if (part === null || part === undefined || all <= 0n) return 0;
    const found = Number((BigInt(part) * 10000n) / all) / 10000;
    return Math.min(1, Math.max(0, found));
}

function grouped(digits) {
    return digits.replace(/\B(?=(\d{3})+$)/g, ",");
}

function decimals(digits) {
    return digits.replace(/0+$/, "").padEnd(2, "0");
}
