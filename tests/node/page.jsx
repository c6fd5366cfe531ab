// A page as an application has it: React, and `useChat` of the AI SDK, before a gateway of another origin.
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls } from "ai";
import { useState } from "react";
import { createRoot } from "react-dom/client";

const { api, model, key, chat } = Object.fromEntries(new URLSearchParams(location.search));
const transport = new DefaultChatTransport({
    api: `${api}/api/chat`,
    body: { model },
    headers: key ? { authorization: `Bearer ${key}` } : undefined,
});

function Chat() {
    const [input, setInput] = useState("");
    const { messages, status, error, sendMessage, stop, addToolOutput } = useChat({
        transport,
        // A page that says which chat it shows goes on with the reply that is under way when it is loaded anew.
        ...(chat && { id: chat, resume: true }),
        sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
        onToolCall: ({ toolCall: { toolName, toolCallId } }) =>
            void addToolOutput({ tool: toolName, toolCallId, output: `the page's ${toolName}` }),
    });
    const shown = (part) =>
        part.type === "text" ? part.text : part.type.startsWith("tool-") ? `[${part.type}: ${part.state}]` : "";
    return (
        <main>
            <output id="status">{status}</output>
            <output id="error">{error?.message}</output>
            {messages.map((message) => (
                <p key={message.id} className={message.role}>
                    {message.parts.map(shown).join("")}
                </p>
            ))}
            <input id="input" value={input} onChange={(event) => setInput(event.target.value)} />
            <button id="send" onClick={() => sendMessage({ text: input })} />
            <button id="stop" onClick={() => stop()} />
        </main>
    );
}

createRoot(document.getElementById("root")).render(<Chat />);
