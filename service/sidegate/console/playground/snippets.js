// The same call as curl and as Python, to be pasted elsewhere. The key is never in it: a variable stands in its place.

import { DIALECTS, request } from "./dialects.js";

const OPENAI = ["openai.chat", "openai.responses"];

/** `base` is the clients' listener with the route's prefix; `unix:/path` where there is only a socket. */
export function curl(name, asked, base, prefix = "") {
    const { path, headers, body } = request(name, asked);
    const [socket, host] = where(base);
    const [[header, value]] = Object.entries(DIALECTS[name].key("$SIDEGATE_KEY"));
    const lines = [
        `curl ${asked.stream ? "-N " : ""}${socket ? `--unix-socket ${quoted(socket)} ` : ""}${quoted(host + prefix + path)}`,
        `-H "${header}: ${value}"`,
        ...Object.entries(headers).map(([each, text]) => `-H ${quoted(`${each}: ${text}`)}`),
        `-d ${quoted(JSON.stringify(body))}`,
    ];
    return lines.join(" \\\n  ");
}

/** With the vendor's own library. */
export function python(name, asked, base, prefix = "") {
    const [socket, host] = where(base);
    if (OPENAI.includes(name)) return openai(name, asked, host + prefix, socket);
    return name === "anthropic.messages" ? anthropic(asked, host + prefix, socket) : gemini(asked, host + prefix);
}

function openai(name, asked, base, socket) {
    const chat = name === "openai.chat";
    const made = client("OpenAI", `${base}/v1`, socket);
    const call = `client.${chat ? "chat.completions" : "responses"}.create(`;
    const told = chat ? "print(event.choices[0].delta.content or \"\" if event.choices else \"\", end=\"\", flush=True)" : "print(event)";
    const lines = [...asArguments(name, asked), ")"];
    const whole = chat ? "print(reply.choices[0].message.content)" : "print(reply.output_text)";
    const rest = asked.stream ? ["for event in reply:", `    ${told}`] : [whole];
    return ["import os", "", ...(socket ? ["import httpx"] : []), "from openai import OpenAI", "", made, `reply = ${call}`, ...lines, ...rest, ""].join("\n");
}

function anthropic(asked, base, socket) {
    const made = client("Anthropic", base, socket);
    const rest = asked.stream ? ["for event in reply:", "    print(event)"] : ["print(reply.content)"];
    const lines = ["reply = client.messages.create(", ...asArguments("anthropic.messages", asked), ")", ...rest, ""];
    return ["import os", "", ...(socket ? ["import httpx"] : []), "from anthropic import Anthropic", "", made, ...lines].join("\n");
}

function gemini(asked, base) {
    const config = { ...(asked.system ? { system_instruction: asked.system } : {}), ...(asked.most ? { max_output_tokens: asked.most } : {}) };
    const body = { model: asked.model, contents: asked.prompt, ...(Object.keys(config).length ? { config } : {}) };
    const given = Object.entries(body).map(([key, value]) => `    ${key}=${literal(value)},`);
    const method = asked.stream ? "generate_content_stream" : "generate_content";
    const rest = asked.stream ? ["for event in reply:", '    print(event.text or "", end="", flush=True)'] : ["print(reply.text)"];
    return [
        "import os", "", "from google import genai", "",
        `client = genai.Client(api_key=os.environ["SIDEGATE_KEY"], http_options={"base_url": ${literal(base)}})`,
        `reply = client.models.${method}(`, ...given, ")", ...rest, "",
    ].join("\n");
}

function client(name, base, socket) {
    const through = socket ? `, http_client=httpx.Client(transport=httpx.HTTPTransport(uds=${literal(socket)}))` : "";
    return `client = ${name}(base_url=${literal(base)}, api_key=os.environ["SIDEGATE_KEY"]${through})`;
}

function asArguments(name, asked) {
    const body = DIALECTS[name].body(asked);
    const lines = Object.entries(body).map(([key, value]) => `    ${key}=${literal(value)},`);
    const more = Object.keys(asked.more ?? {}).length ? [`    extra_body=${literal(asked.more)},`] : [];
    return [...lines, ...more];
}

/** A value as Python writes it. */
export function literal(value) {
    if (value === null || value === undefined) return "None";
    if (typeof value === "boolean") return value ? "True" : "False";
    if (typeof value !== "object") return JSON.stringify(value);
    if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
    return `{${Object.entries(value).map(([key, each]) => `${JSON.stringify(key)}: ${literal(each)}`).join(", ")}}`;
}

/** In single quotes for a shell. */
export function quoted(text) {
    return `'${text.replaceAll("'", "'\\''")}'`;
}

function where(base) {
    return base.startsWith("unix:") ? [base.slice(5), "http://localhost"] : [null, base];
}
