// OpenAI's client through a Unix socket, by undici's way of connecting.
import OpenAI from "openai";
import { Agent, fetch } from "undici";

export const chat = async ({ path, stream }) => {
    const dispatcher = new Agent({ connect: { socketPath: path } });
    const client = new OpenAI({
        baseURL: "http://localhost/v1",
        apiKey: "none",
        maxRetries: 0,
        fetch,
        fetchOptions: { dispatcher },
    });
    const asked = { model: "demo", messages: [{ role: "user", content: "Tell me of the sea." }] };
    try {
        if (!stream) return (await client.chat.completions.create(asked)).choices[0].message.content;
        let text = "";
        for await (const chunk of await client.chat.completions.create({ ...asked, stream: true }))
            text += chunk.choices[0]?.delta?.content ?? "";
        return text;
    } finally {
        await dispatcher.close();
    }
};
