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
