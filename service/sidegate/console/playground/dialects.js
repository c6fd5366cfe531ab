// What each dialect asks with and answers in: only as much as the playground needs. No DOM here, so that Node can test it.

/** By name: `title`, how a request is made, and how a reply is read. */
export const DIALECTS = {
    "openai.chat": {
        title: "OpenAI Chat Completions",
        path: () => "/v1/chat/completions",
        key: bearer,
        body: ({ model, system, prompt, most, stream }) => ({
            model, messages: [...(system ? [{ role: "system", content: system }] : []), { role: "user", content: prompt }],
            ...(most ? { max_tokens: most } : {}), ...(stream ? { stream: true } : {}),
        }),
        said: (data) => (data.choices ?? []).flatMap(({ index, delta, message }) => (index ? [] : ofChat(delta ?? message ?? {}))),
    },
    "openai.responses": {
        title: "OpenAI Responses",
        path: () => "/v1/responses",
        key: bearer,
        body: ({ model, system, prompt, most, stream }) => ({
            model, input: prompt, ...(system ? { instructions: system } : {}), ...(most ? { max_output_tokens: most } : {}),
            ...(stream ? { stream: true } : {}),
        }),
        said: (data) => (data.type ? ofResponseEvent(data) : (data.output ?? []).flatMap(ofOutput)),
    },
    "anthropic.messages": {
        title: "Anthropic Messages",
        path: () => "/v1/messages",
        key: (key) => ({ "x-api-key": key }),
        headers: { "anthropic-version": "2023-06-01" },
        body: ({ model, system, prompt, most, stream }) => ({
            model, max_tokens: most || 1024, ...(system ? { system } : {}), messages: [{ role: "user", content: prompt }],
            ...(stream ? { stream: true } : {}),
        }),
        said: (data) => (data.type === "message" ? (data.content ?? []).flatMap(ofBlock) : ofMessageEvent(data)),
    },
    "gemini.generate": {
        title: "Gemini generateContent",
        path: ({ model, stream }) => {
            const name = model.split("/").map(encodeURIComponent).join("/");
            return `/v1beta/models/${name}:${stream ? "streamGenerateContent?alt=sse" : "generateContent"}`;
        },
        key: (key) => ({ "x-goog-api-key": key }),
        body: ({ system, prompt, most }) => ({
            ...(system ? { systemInstruction: { parts: [{ text: system }] } } : {}),
            contents: [{ role: "user", parts: [{ text: prompt }] }],
            ...(most ? { generationConfig: { maxOutputTokens: most } } : {}),
        }),
        said: (data) => (data.candidates?.[0]?.content?.parts ?? []).flatMap(ofPart),
    },
};

/** The whole request: path, headers without the key, and body with further fields. */
export function request(name, asked) {
    const dialect = DIALECTS[name];
    return {
        path: dialect.path(asked),
        headers: { "Content-Type": "application/json", ...dialect.headers },
        body: { ...dialect.body(asked), ...asked.more },
    };
}

/** Pieces of a reply: {kind: "text" | "reasoning" | "tool", text}. Of what is no reply, none. */
export function said(name, data) {
    if (data === null || typeof data !== "object") return [];
    return DIALECTS[name].said(data).filter(({ text }) => typeof text === "string" && text !== "");
}

/** What an event or a body says went wrong; null where nothing did. */
export function wrong(data) {
    const error = data?.error ?? data?.response?.error ?? (data?.type === "error" ? data : null);
    if (!error || typeof error !== "object") return null;
    return String(error.message ?? error.code ?? "The provider failed.");
}

function bearer(key) {
    return { Authorization: `Bearer ${key}` };
}

function ofChat(part) {
    return [
        { kind: "reasoning", text: part.reasoning_content ?? part.reasoning },
        { kind: "text", text: part.content ?? part.refusal },
        ...(part.tool_calls ?? []).map((call) => ofCall(call.function?.name, call.function?.arguments)),
    ];
}

function ofCall(name, given) {
    const text = typeof given === "string" ? given : given === undefined ? "" : JSON.stringify(given);
    return { kind: "tool", text: `${name ? `\n${name} ` : ""}${text}` };
}

const RESPONSE_EVENTS = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "text",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.function_call_arguments.delta": "tool",
};

function ofResponseEvent(event) {
    const kind = RESPONSE_EVENTS[event.type];
    if (kind) return [{ kind, text: event.delta }];
    const called = event.type === "response.output_item.added" && event.item?.type === "function_call";
    return called ? [ofCall(event.item.name, "")] : [];
}

function ofOutput(item) {
    if (item.type === "function_call") return [ofCall(item.name, item.arguments)];
    const kind = item.type === "reasoning" ? "reasoning" : "text";
    return [...(item.summary ?? []), ...(item.content ?? [])].map((part) => ({ kind, text: part.text ?? part.refusal }));
}

function ofMessageEvent({ type, delta, content_block: block }) {
    if (type === "content_block_start") return block?.type === "tool_use" ? [ofCall(block.name, "")] : [{ kind: "text", text: block?.text }];
    if (type !== "content_block_delta") return [];
    return [
        { kind: "text", text: delta?.text },
        { kind: "reasoning", text: delta?.thinking },
        { kind: "tool", text: delta?.partial_json },
    ];
}

function ofBlock(block) {
    if (block.type === "tool_use") return [ofCall(block.name, block.input)];
    return [{ kind: "reasoning", text: block.thinking }, { kind: "text", text: block.text }];
}

function ofPart(part) {
    if (part.functionCall) return [ofCall(part.functionCall.name, part.functionCall.args)];
    return [{ kind: part.thought ? "reasoning" : "text", text: part.text }];
}
