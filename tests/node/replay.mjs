// Reads a reply as it comes, event by event or whole, with nothing made of it: so that two readings can be compared.
import Anthropic from "@anthropic-ai/sdk";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { GoogleGenAI } from "@google/genai";
import OpenAI from "openai";

const apiKey = "client-key";
const user = { role: "user", content: "x" };
const openai = (url) => new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });
const anthropic = (url) => new Anthropic({ baseURL: url, apiKey, maxRetries: 0 });
const google = (url) => new GoogleGenAI({ apiKey, httpOptions: { baseUrl: url } }).models;

const wish = (stream) => (stream ? { stream, stream_options: { include_usage: true } } : {});

const CLIENTS = {
    chat: ({ url, stream }) => openai(url).chat.completions.create({ model: "m", messages: [user], ...wish(stream) }),
    responses: ({ url, stream }) => openai(url).responses.create({ model: "m", input: "x", stream }),
    messages: ({ url, stream }) =>
        anthropic(url).messages.create({ model: "m", max_tokens: 9, messages: [user], stream }),
    gemini: ({ url, stream }) =>
        google(url)[stream ? "generateContentStream" : "generateContent"]({ model: "m", contents: "x" }),
    "ai-chat": (given) => asked(createOpenAI({ baseURL: `${given.url}/v1`, apiKey }).chat("m"), given),
    "ai-responses": (given) => asked(createOpenAI({ baseURL: `${given.url}/v1`, apiKey })("m"), given),
    "ai-messages": (given) => asked(createAnthropic({ baseURL: `${given.url}/v1`, apiKey })("m"), given),
    "ai-gemini": (given) => asked(createGoogleGenerativeAI({ baseURL: `${given.url}/v1beta`, apiKey })("m"), given),
};

// What a vendor's part of the AI SDK makes of a reply, before the SDK makes its own objects of that.
async function asked(model, { stream }) {
    const options = { prompt: [{ role: "user", content: [{ type: "text", text: "x" }] }] };
    if (stream) return (await model.doStream(options)).stream;
    const { request, ...told } = await model.doGenerate(options);
    return { ...told, response: { ...told.response, headers: null } };
}

export async function read({ client, ...given }) {
    // Some make ids by chance: the same ones at each reading.
    let chance = 0;
    Math.random = () => (chance = (chance + 0.618) % 1);
    const events = [];
    try {
        const reply = await CLIENTS[client](given);
        if (given.stream) for await (const event of reply) events.push(plain(event));
        else events.push(plain(reply));
    } catch (error) {
        return { events, error: described(error) };
    }
    return { events };
}

function plain(thing) {
    const of = (key, value) =>
        value instanceof Error
            ? { raised: value.constructor.name }
            : ["sdkHttpResponse", "_request_id", "timestamp"].includes(key)
              ? undefined
              : value;
    return JSON.parse(JSON.stringify(thing, of));
}
