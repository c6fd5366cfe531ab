// Google's own client.
import { GoogleGenAI } from "@google/genai";
import { CITY, heard, patience, QUESTION, TOOLS } from "./heard.mjs";

const client = ({ url, key = "client-key" }) => new GoogleGenAI({ apiKey: key, httpOptions: { baseUrl: url } });

export const generate = (given) =>
    heard(async (said) => {
        const leaving = new AbortController();
        const config = { ...given.more, abortSignal: patience(given) ?? leaving.signal };
        if (given.tools)
            config.tools = [
                {
                    functionDeclarations: Object.entries(TOOLS).map(([name, parametersJsonSchema]) => ({
                        name,
                        parametersJsonSchema,
                    })),
                },
            ];
        if (given.schema) Object.assign(config, { responseMimeType: "application/json", responseJsonSchema: CITY });
        const asked = { model: given.model, contents: given.question ?? QUESTION, config };
        const { models } = client(given);
        if (!given.stream) {
            hear(said, await models.generateContent(asked));
        } else {
            for await (const event of await models.generateContentStream(asked)) {
                hear(said, event);
                // To leave the loop alone does not stop this client.
                if (given.leave && said.text) return leaving.abort();
            }
        }
        if (given.schema) said.parsed = JSON.parse(said.text);
    });

function hear(said, reply) {
    const candidate = reply.candidates?.[0];
    for (const part of candidate?.content?.parts ?? []) {
        if (!part.thought) said.text += part.text ?? "";
        if (part.functionCall) said.calls.push([part.functionCall.id, part.functionCall.name, part.functionCall.args]);
    }
    said.finish = candidate?.finishReason ?? said.finish;
    const usage = reply.usageMetadata;
    if (usage) said.usage = [usage.promptTokenCount, usage.candidatesTokenCount];
    said.model = reply.modelVersion ?? said.model;
}

export async function embeddings({ url, model, input }) {
    const reply = await client({ url }).models.embedContent({ model, contents: input });
    return { vectors: reply.embeddings.map((each) => each.values) };
}

export async function tokens({ url, model }) {
    return (await client({ url }).models.countTokens({ model, contents: QUESTION })).totalTokens;
}

export async function models({ url, key }) {
    const names = [];
    for await (const model of await client({ url, key }).models.list()) names.push(model.name);
    return names;
}

// Runs the tools that are called, and asks again, until nothing is called.
export async function answered({ url, model, stream, question }) {
    const declared = Object.entries(TOOLS).map(([name, parametersJsonSchema]) => ({ name, parametersJsonSchema }));
    const callable = {
        tool: async () => ({ functionDeclarations: declared }),
        callTool: async (calls) =>
            calls.map(({ id, name }) => ({
                functionResponse: { id, name, response: { output: `the ${name} of ${question}` } },
            })),
    };
    const asked = { model, contents: question, config: { tools: [callable] } };
    const { models } = client({ url });
    if (!stream) {
        const reply = await models.generateContent(asked);
        const before = (reply.automaticFunctionCallingHistory ?? []).filter(({ role }) => role === "model");
        return { steps: [...before, reply.candidates[0].content].map(textOf) };
    }
    const steps = [""];
    for await (const event of await models.generateContentStream(asked)) {
        // What the tools gave comes as an event of its own, between the turns.
        if (event.candidates?.[0]?.content?.role === "user") steps.push("");
        else steps[steps.length - 1] += textOf(event.candidates?.[0]?.content);
    }
    return { steps };
}

const textOf = (content) => (content?.parts ?? []).map((part) => part.text ?? "").join("");
