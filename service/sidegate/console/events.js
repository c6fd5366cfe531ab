// Server-sent events from a stream of bytes (WHATWG HTML, 9.2), as `fetch` gives them: it can send headers, which
// EventSource cannot.

/** Takes text as it comes; gives the events that are whole, each with its raw text. */
export class Splitter {
    #rest = "";

    feed(text) {
        this.#rest += text;
        // A carriage return at the end may be half of a line's end.
        const held = this.#rest.endsWith("\r") ? "\r" : "";
        const blocks = this.#rest.slice(0, this.#rest.length - held.length).split(/\r\n\r\n|\n\n|\r\r/);
        this.#rest = blocks.pop() + held;
        return blocks.map(read).filter((event) => event !== null);
    }

    /** What is left at the end: no event, for its blank line never came. */
    get rest() {
        return this.#rest;
    }
}

function read(raw) {
    const event = { name: "message", data: null, id: null, raw };
    const data = [];
    for (const line of raw.replace(/^\uFEFF/, "").split(/\r\n|\n|\r/)) {
        const at = line.indexOf(":");
        if (at === 0) continue;
        const field = at < 0 ? line : line.slice(0, at);
        const value = at < 0 ? "" : line.slice(at + 1).replace(/^ /, "");
        if (field === "data") data.push(value);
        else if (field === "event") event.name = value;
        else if (field === "id") event.id = value;
    }
    if (data.length) event.data = data.join("\n");
    return raw === "" ? null : event;
}

/** Each event of a response, until it ends. */
export async function* events(body) {
    const splitter = new Splitter();
    const decoder = new TextDecoder();
    const reader = body.getReader();
    try {
        for (;;) {
            const { done, value } = await reader.read();
            const text = done ? decoder.decode() : decoder.decode(value, { stream: true });
            yield* splitter.feed(text);
            if (done) return;
        }
    } finally {
        reader.cancel().catch(() => {});
    }
}
