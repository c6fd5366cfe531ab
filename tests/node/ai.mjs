// The AI SDK with its clients of each vendor, and of hosts that speak like OpenAI.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, isStepCount, jsonSchema, Output, streamText, tool } from "ai";
import { CITY, heard, patience, QUESTION, TOOLS } from "./heard.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;

const VENDORS = {
    responses: ({ url, apiKey, model }) => createOpenAI({ baseURL: `${url}/v1`, apiKey })(model),
    chat: ({ url, apiKey, model }) => createOpenAI({ baseURL: `${url}/v1`, apiKey }).chat(model),
    compatible: ({ url, apiKey, model }) =>
        createOpenAICompatible({
            name: "gateway",
            baseURL: `${url}/v1`,
            apiKey,
            includeUsage: true,
            supportsStructuredOutputs: true,
        })(model),
    anthropic: ({ url, apiKey, model }) => createAnthropic({ baseURL: `${url}/v1`, apiKey })(model),
    google: ({ url, apiKey, model }) => createGoogleGenerativeAI({ baseURL: `${url}/v1beta`, apiKey })(model),
};

function asked({ vendor, url, model, key = "client-key", tools, schema, maxRetries = 0, more, question = QUESTION, whole }) {
    const settings = {
        model: VENDORS[vendor]({ url, apiKey: key, model }),
        prompt: question,
        maxRetries,
        ...more,
    };
    if (tools)
        settings.tools = Object.fromEntries(
            Object.entries(TOOLS).map(([name, shape]) => [name, tool({ inputSchema: jsonSchema(shape) })]),
        );
    if (schema) settings.output = Output.object({ schema: jsonSchema(CITY) });
    // Of a model it does not know it thinks that it only has tools; "tool" asks for that.
    if (schema) settings.providerOptions = { anthropic: { structuredOutputMode: schema === "tool" ? "jsonTool" : "outputFormat" } };
    // Otherwise what was said before is referred to, and only a provider that keeps it knows it.
    if (whole) settings.providerOptions = { openai: { store: false } };
    return settings;
}

// Asks, answers what is called by a text of its own, and asks again, until nothing is called.
export async function answered(given) {
    const settings = { ...asked(given), stopWhen: isStepCount(3) };
    for (const [name, each] of Object.entries(settings.tools)) each.execute = async () => `the ${name} of ${given.question}`;
    const result = given.stream ? streamText({ ...settings, onError: () => undefined }) : await generateText(settings);
    return { text: await result.text, steps: (await result.steps).map((step) => step.text) };
}

const called = (call) => [call.toolCallId, call.toolName, call.input];

export const said = (given) => heard((said) => (given.stream ? streamed(given, said) : whole(given, said)));

async function whole(given, said) {
    const result = await generateText({ ...asked(given), abortSignal: patience(given) });
    said.text = result.text;
    said.calls = result.toolCalls.map(called);
    said.finish = result.finishReason;
    said.usage = [result.usage.inputTokens, result.usage.outputTokens];
    if (given.schema) said.parsed = result.output;
    said.model = result.response.modelId;
    said.headers = result.response.headers;
}

async function streamed(given, said) {
    const leaving = new AbortController();
    let thrown;
    const result = streamText({ ...asked(given), abortSignal: patience(given) ?? leaving.signal, onError: () => undefined });
    const begun = {};
    for await (const part of result.fullStream) {
        if (part.type === "text-delta") said.text += part.text;
        if (part.type === "tool-input-delta") begun[part.id] = (begun[part.id] ?? "") + part.delta;
        if (part.type === "tool-call") said.calls.push(called(part));
        if (part.type === "error") thrown ??= part.error;
        if (part.type === "finish") {
            said.finish = part.finishReason;
            said.usage = [part.totalUsage.inputTokens, part.totalUsage.outputTokens];
        }
        if (given.leave && said.text) leaving.abort();
        if (part.type === "abort") return;
    }
    if (thrown) throw thrown;
    // What came piece by piece is what the calls say.
    said.pieced = Object.values(begun).map((text) => JSON.parse(text));
    if (given.schema) said.parsed = await result.output;
    said.model = (await result.response).modelId;
}

export async function embeddings({ url, model, input, vendor = "openai" }) {
    const provider =
        vendor === "google"
            ? createGoogleGenerativeAI({ baseURL: `${url}/v1beta`, apiKey: "client-key" })
            : createOpenAI({ baseURL: `${url}/v1`, apiKey: "client-key" });
    const reply = await embedMany({ model: provider.textEmbeddingModel(model), values: input, maxRetries: 0 });
    return { vectors: reply.embeddings, usage: reply.usage.tokens };
}
