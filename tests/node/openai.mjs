// OpenAI's own client: Chat Completions, Responses, embeddings.
import OpenAI from "openai";
import OpenAI6 from "openai-6";
import { CITY, heard, patience, QUESTION, TOOLS } from "./heard.mjs";

const client = ({ url, key = "client-key", maxRetries = 0 }) =>
    new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries });

export const chat = (given) =>
    heard(async (said) => {
        const tools = Object.entries(TOOLS).map(([name, parameters]) => ({
            type: "function",
            function: { name, parameters },
        }));
        const asked = { model: given.model, messages: [{ role: "user", content: given.question ?? QUESTION }], ...given.more };
        if (given.tools) asked.tools = tools;
        if (given.schema)
            asked.response_format = { type: "json_schema", json_schema: { name: "city", schema: CITY, strict: true } };
        const completion = given.stream
            ? await streamedChat(client(given), asked, said, given.leave, patience(given))
            : await client(given).chat.completions[given.schema ? "parse" : "create"](asked, { signal: patience(given) });
        if (!completion) return;
        const { message, finish_reason } = completion.choices[0];
        said.text = message.content ?? "";
        said.calls = (message.tool_calls ?? []).map((call) => [
            call.id,
            call.function.name,
            JSON.parse(call.function.arguments),
        ]);
        said.finish = finish_reason;
        said.usage = completion.usage && [completion.usage.prompt_tokens, completion.usage.completion_tokens];
        said.parsed = message.parsed;
        said.model = completion.model;
    });

async function streamedChat(ai, asked, said, leave, signal) {
    const stream = ai.chat.completions.stream({ ...asked, stream_options: { include_usage: true } }, { signal });
    for await (const chunk of stream) {
        said.text += chunk.choices[0]?.delta?.content ?? "";
        // Leaving a loop closes the stream, which aborts the request.
        if (leave && said.text) return undefined;
    }
    return await stream.finalChatCompletion();
}

export const responses = (given) =>
    heard(async (said) => {
        const asked = { model: given.model, input: given.question ?? QUESTION, ...given.more };
        if (given.tools)
            asked.tools = Object.entries(TOOLS).map(([name, parameters]) => ({
                type: "function",
                name,
                parameters,
                strict: false,
            }));
        if (given.schema)
            asked.text = { format: { type: "json_schema", name: "city", schema: CITY, strict: true } };
        const response = given.stream
            ? await streamedResponse(client(given), asked, said, given.leave, patience(given))
            : await client(given).responses.parse(asked, { signal: patience(given) });
        if (!response) return;
        said.text = response.output
            .filter((item) => item.type === "message")
            .flatMap((item) => item.content)
            .map((part) => part.text)
            .join("");
        said.calls = response.output
            .filter((item) => item.type === "function_call")
            .map((call) => [call.call_id, call.name, JSON.parse(call.arguments)]);
        said.finish = response.status;
        said.usage = response.usage && [response.usage.input_tokens, response.usage.output_tokens];
        said.parsed = response.output_parsed;
        said.model = response.model;
    });

async function streamedResponse(ai, asked, said, leave, signal) {
    const stream = ai.responses.stream(asked, { signal });
    for await (const event of stream) {
        if (event.type === "error") throw Object.assign(new Error(event.message), { code: event.code });
        if (event.type === "response.output_text.delta") said.text += event.delta;
        if (leave && said.text) return undefined;
    }
    return await stream.finalResponse();
}

export async function embeddings({ url, model, input, more, major = 7 }) {
    const Client = major === 6 ? OpenAI6 : OpenAI;
    const ai = new Client({ baseURL: `${url}/v1`, apiKey: "client-key", maxRetries: 0 });
    const reply = await ai.embeddings.create({ model, input, ...more });
    return { vectors: reply.data.map((each) => [...each.embedding]), usage: reply.usage?.prompt_tokens };
}

export async function models({ url, key }) {
    const names = [];
    for await (const model of client({ url, key }).models.list()) names.push(model.id);
    return names;
}

// Runs the tools that are called, and asks again, until nothing is called.
export async function answered({ url, model, stream, question }) {
    const tools = Object.entries(TOOLS).map(([name, parameters]) => ({
        type: "function",
        function: { name, parameters, parse: JSON.parse, function: () => `the ${name} of ${question}` },
    }));
    const messages = [{ role: "user", content: question }];
    const runner = client({ url }).chat.completions.runTools({ model, messages, tools, stream });
    await runner.done();
    const said = runner.messages.filter((message) => message.role === "assistant");
    return { steps: said.map((message) => message.content) };
}
