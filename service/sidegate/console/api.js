// What the page asks of the admin listener. The key, where one is wanted, is in this tab's storage and in a header.

import { parse } from "./money.js";

const KEPT = "sidegate.admin-key";

let prompt = null;
let asking = null;

/** An answer that says what is wrong: `application/problem+json`. */
export class Problem extends Error {
    constructor(status, told) {
        super(told.detail || told.title || `The gateway answered ${status}.`);
        this.status = status;
        this.code = told.code ?? "";
    }
}

/** Who asks the user for the key: told why, gives a promise of it. */
export function promptBy(ask) {
    prompt = ask;
}

export function hasKey() {
    return key() !== null;
}

export function forgetKey() {
    sessionStorage.removeItem(KEPT);
}

function key() {
    return sessionStorage.getItem(KEPT);
}

/** The response to a request, once it is a good one. Asks for the key where it is missing or wrong. */
export async function fetched(path, { method = "GET", body, headers = {}, signal } = {}) {
    for (;;) {
        const given = key();
        const sent = given === null ? headers : { ...headers, Authorization: `Bearer ${given}` };
        const response = await reach(path, { method, body, headers: sent, signal, cache: "no-store" });
        if (response.status !== 401 || !response.headers.get("www-authenticate")?.includes("sidegate admin")) return response;
        const told = await said(response);
        if (key() === given) await newKey(told.code === "invalid_admin_key" ? told.detail : "");
    }
}

/** The answer, as data. */
export async function ask(path, { json, ...options } = {}) {
    const body = json === undefined ? options.body : JSON.stringify(json);
    const headers = json === undefined ? {} : { "Content-Type": "application/json" };
    const response = await fetched(path, { ...options, headers, body });
    if (!response.ok) throw new Problem(response.status, await said(response));
    return parse(await response.text());
}

async function reach(path, options) {
    try {
        return await fetch(path, options);
    } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Problem(0, { detail: "The gateway does not answer." });
    }
}

/** What an error's body says, if it can be read. */
export async function said(response) {
    try {
        return parse(await response.text());
    } catch {
        return {};
    }
}

/** One question for all requests that wait for the key. */
async function newKey(why) {
    asking ??= prompt(why).finally(() => {
        asking = null;
    });
    sessionStorage.setItem(KEPT, await asking);
}

/** A query from those parameters that say something. */
export function query(parameters) {
    const said = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
    const text = new URLSearchParams(said).toString();
    return text ? `?${text}` : "";
}
