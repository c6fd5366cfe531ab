// One call of the playground, from its request to what the ledger says of it.

import { ask, fetched } from "../api.js";
import { Splitter } from "../events.js";
import { DIALECTS, request, said, wrong } from "./dialects.js";

const TRIES = 25;
const PAUSE_MS = 200;
const PATH = "/admin/playground";

/** Tells by events: `head`, `event` {at, event, data}, `piece` {kind, text}, `over`, `record`. */
export class Run extends EventTarget {
    #stopping = new AbortController();
    id = null;
    status = null;
    firstToken = null;
    seconds = null;
    problem = null;
    stopped = false;

    constructor(dialect, asked, prefix, key) {
        super();
        this.dialect = dialect;
        this.asked = asked;
        this.prefix = prefix;
        this.key = key;
    }

    /** Leave, as a client does whose user has seen enough. */
    stop() {
        this.stopped = true;
        this.#stopping.abort();
    }

    async go() {
        const began = performance.now();
        this.since = () => (performance.now() - began) / 1000;
        try {
            await this.#call();
        } catch (error) {
            if (!this.stopped) this.problem = error.message;
        }
        this.seconds = this.since();
        this.#tell("over");
        if (this.id !== null) await this.#settled();
    }

    async #call() {
        const { path, headers, body } = request(this.dialect, this.asked);
        const response = await fetched(PATH + this.prefix + path, {
            method: "POST", headers: { ...headers, ...this.#credential() }, body: JSON.stringify(body), signal: this.#stopping.signal,
        });
        this.id = response.headers.get("x-request-id");
        this.status = response.status;
        this.#tell("head");
        const streams = response.headers.get("content-type")?.startsWith("text/event-stream");
        if (streams) await this.#stream(response.body);
        else this.#whole(await response.text());
    }

    /** The admin's key stands in Authorization, so the client's travels beside it. */
    #credential() {
        if (!this.key) return {};
        const { Authorization, ...others } = DIALECTS[this.dialect].key(this.key);
        return Authorization === undefined ? others : { "x-sidegate-client-authorization": Authorization };
    }

    async #stream(body) {
        const splitter = new Splitter();
        const reader = body.pipeThrough(new TextDecoderStream()).getReader();
        for (;;) {
            const { done, value } = await reader.read();
            if (done) return;
            for (const event of splitter.feed(value)) this.#event(event);
        }
    }

    #event(event) {
        const data = event.data === null ? null : decoded(event.data);
        this.#tell("event", { at: this.since(), raw: event.raw });
        this.#read(data);
    }

    #whole(text) {
        this.#tell("event", { at: this.since(), raw: text });
        this.#read(decoded(text));
        if (this.status >= 400 && this.problem === null) this.problem = decoded(text)?.detail ?? `The gateway answered ${this.status}.`;
    }

    #read(data) {
        this.problem = wrong(data) ?? this.problem;
        for (const piece of said(this.dialect, data)) {
            this.firstToken ??= this.since();
            this.#tell("piece", piece);
        }
    }

    /** The record comes a moment after the end. */
    async #settled() {
        for (let left = TRIES; left > 0; left -= 1) {
            try {
                const found = await ask(`/admin/calls/${this.id}`);
                if (found.state !== "in_flight") {
                    this.record = found;
                    return this.#tell("record");
                }
            } catch (error) {
                if (error.status !== 404) return;
            }
            await new Promise((done) => setTimeout(done, PAUSE_MS));
        }
    }

    #tell(name, detail = null) {
        this.dispatchEvent(new CustomEvent(name, { detail }));
    }
}

function decoded(text) {
    try {
        return JSON.parse(text);
    } catch {
        return null;
    }
}
