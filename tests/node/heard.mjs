// What every client is asked for: to say, in words that are the same for all, what it heard.

export const QUESTION = "Où est le café?";

// What became of a call: `text`, `calls` as [id, name, arguments], `finish`, `usage` as [in, out]; `error` where it threw.
export async function heard(listen) {
    const said = { text: "", calls: [], finish: null, usage: null };
    try {
        await listen(said);
    } catch (error) {
        said.error = described(error);
    }
    return said;
}

// Gives up waiting as soon as `until` answers, where that is given: `signal` is what clients take, `undefined` is none.
export function patience({ until }) {
    if (!until) return undefined;
    const leaving = new AbortController();
    fetch(until).then(() => leaving.abort());
    return leaving.signal;
}

export const CITY = {
    type: "object",
    properties: { city: { type: "string" }, days: { type: "integer" } },
    required: ["city", "days"],
    additionalProperties: false,
};

export const TOOLS = {
    weather: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
    time: { type: "object", properties: { zone: { type: "string" }, at: { type: "array", items: { type: "integer" } } } },
};
