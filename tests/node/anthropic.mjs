// Anthropic's own client.
import Anthropic from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import { CITY, heard, patience, QUESTION, TOOLS } from "./heard.mjs";

const client = ({ url, key = "client-key", maxRetries = 0 }) => new Anthropic({ baseURL: url, apiKey: key, maxRetries });

export const messages = (given) =>
    heard(async (said) => {
        const asked = {
            model: given.model,
            max_tokens: 50,
            messages: [{ role: "user", content: given.question ?? QUESTION }],
            ...given.more,
        };
        if (given.tools)
            asked.tools = Object.entries(TOOLS).map(([name, input_schema]) => ({ name, input_schema }));
        if (given.schema) asked.output_config = { format: { type: "json_schema", schema: CITY } };
        const message = given.stream
            ? await streamed(client(given), asked, said, given.leave, patience(given))
            : await client(given).messages.parse(asked, { signal: patience(given) });
        if (!message) return;
        const of = (type) => message.content.filter((block) => block.type === type);
        said.text = of("text")
            .map((block) => block.text)
            .join("");
        said.calls = of("tool_use").map((block) => [block.id, block.name, block.input]);
        said.finish = message.stop_reason;
        const { input_tokens, cache_read_input_tokens, cache_creation_input_tokens, output_tokens } = message.usage;
        said.usage = [input_tokens + (cache_read_input_tokens ?? 0) + (cache_creation_input_tokens ?? 0), output_tokens];
        said.parsed = given.schema ? (message.parsed_output ?? JSON.parse(said.text)) : undefined;
        said.model = message.model;
    });

async function streamed(ai, asked, said, leave, signal) {
    const stream = ai.messages.stream(asked, { signal });
    for await (const event of stream) {
        if (event.type === "content_block_delta") said.text += event.delta.text ?? "";
        if (leave && said.text) return undefined;
    }
    return await stream.finalMessage();
}

export async function tokens({ url, model }) {
    return (await client({ url }).messages.countTokens({ model, messages: [{ role: "user", content: QUESTION }] })).input_tokens;
}

export async function models({ url, key }) {
    const names = [];
    for await (const model of client({ url, key }).models.list()) names.push([model.type, model.id]);
    return names;
}

// Runs the tools that are called, and asks again, until nothing is called.
export async function answered({ url, model, stream, question }) {
    const tools = Object.entries(TOOLS).map(([name, inputSchema]) =>
        betaTool({ name, description: name, inputSchema, run: () => `the ${name} of ${question}` }),
    );
    const messages = [{ role: "user", content: question }];
    const runner = client({ url }).beta.messages.toolRunner({ model, max_tokens: 50, messages, tools, stream });
    const steps = [];
    for await (const turn of runner) {
        const message = stream ? await turn.finalMessage() : turn;
        steps.push(message.content.map((block) => block.text ?? "").join(""));
    }
    return { steps };
}
