// What goes on, once a second, from /admin/live; and what went on in the last minutes while this page was open.

import { events } from "./events.js";
import { fetched, Problem, said } from "./api.js";
import { parse } from "./money.js";

const KEPT = 600;
const HIDDEN_MS = 60_000;
const PAUSES_MS = [500, 1000, 2000, 5000];

class Live extends EventTarget {
    samples = [];
    now = null;
    state = "connecting";
    #stopping = null;
    #hidden = null;

    start() {
        document.addEventListener("visibilitychange", () => this.#look());
        this.#run();
    }

    /** Listen until `signal` says that the page has gone. */
    on(name, listener, signal) {
        this.addEventListener(name, listener, { signal });
    }

    /** A tab that nobody looks at costs the gateway nothing. */
    #look() {
        clearTimeout(this.#hidden);
        if (document.hidden) this.#hidden = setTimeout(() => this.#stopping?.abort("hidden"), HIDDEN_MS);
        else if (this.#stopping === null) this.#run();
    }

    async #run() {
        const stopping = new AbortController();
        this.#stopping = stopping;
        for (let failures = 0; !stopping.signal.aborted; failures += 1) {
            try {
                await this.#read(stopping.signal, () => (failures = 0));
                this.#say("off", "The gateway ended the live view.");
            } catch (error) {
                if (stopping.signal.aborted) break;
                this.#say("off", error.message);
            }
            await new Promise((done) => setTimeout(done, PAUSES_MS[Math.min(failures, PAUSES_MS.length - 1)]));
        }
        this.#stopping = null;
        this.#say("off", "Paused while nobody looked.");
        if (!document.hidden) this.#run();
    }

    async #read(signal, began) {
        const response = await fetched("/admin/live", { signal });
        if (!response.ok) throw new Problem(response.status, await said(response));
        for await (const event of events(response.body)) {
            if (event.name !== "live" || event.data === null) continue;
            began();
            this.#take(parse(event.data));
        }
    }

    #take(now) {
        this.now = now;
        this.samples.push({ ...now, calls: undefined, seconds: Date.parse(now.at) / 1000 });
        if (this.samples.length > KEPT) this.samples.shift();
        this.#say("on", "");
        this.dispatchEvent(new Event("now"));
    }

    #say(state, why) {
        this.why = why;
        if (this.state === state) return;
        this.state = state;
        this.dispatchEvent(new Event("state"));
    }
}

export const live = new Live();
