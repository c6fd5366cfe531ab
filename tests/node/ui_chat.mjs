// A page's chat without the page: what `useChat` and `useCompletion` do, by the AI SDK's own code.
import * as ai6 from "ai-6";
import * as ai7 from "ai";

const MAJORS = { 6: ai6, 7: ai7 };

class State {
    status = "ready";
    error = undefined;
    messages = [];
    pushMessage = (message) => (this.messages = [...this.messages, message]);
    popMessage = () => (this.messages = this.messages.slice(0, -1));
    replaceMessage = (index, message) => (this.messages = this.messages.with(index, structuredClone(message)));
    snapshot = (thing) => structuredClone(thing);
}

const chatOf = ({ AbstractChat }) =>
    class extends AbstractChat {
        constructor(settings) {
            super({ ...settings, state: new State() });
        }
    };

// Sends each text in turn. `answers` are what the page's tools give, by name; `leave` stops once a word has come.
export async function chat({ major = 7, url, texts = ["Hi"], body, headers, answers, leave, text, regenerate, resume, id }) {
    const { DefaultChatTransport, lastAssistantMessageIsCompleteWithToolCalls, TextStreamChatTransport } = MAJORS[major];
    const Chat = chatOf(MAJORS[major]);
    const Transport = text ? TextStreamChatTransport : DefaultChatTransport;
    const heard = { finishes: [], errors: [], called: [] };
    let stopping;
    const chat = new Chat({
        id,
        transport: new Transport({ api: `${url}/api/chat`, body, headers }),
        onError: (error) => heard.errors.push(described(error)),
        onFinish: ({ isAbort, isError, finishReason }) => heard.finishes.push({ isAbort, isError, finishReason }),
        onToolCall: ({ toolCall: { toolName, toolCallId, input } }) => {
            heard.called.push([toolCallId, toolName, input]);
            const output = answers?.[toolName];
            if (output !== undefined) chat.addToolOutput({ tool: toolName, toolCallId, output });
        },
        sendAutomaticallyWhen: answers && lastAssistantMessageIsCompleteWithToolCalls,
    });
    if (leave) {
        const poll = setInterval(() => {
            const last = chat.messages.at(-1);
            if (last?.role !== "assistant" || !last.parts.some((part) => part.text)) return;
            clearInterval(poll);
            stopping = chat.stop();
        }, 2);
    }
    if (resume) await chat.resumeStream();
    else for (const text of texts) await chat.sendMessage({ text });
    await stopping;
    await settled(chat, answers);
    if (regenerate) await chat.regenerate();
    return { ...heard, status: chat.status, error: chat.error?.message, messages: chat.messages };
}

// What is sent by itself, after a tool has answered, is not waited for by `sendMessage`.
async function settled(chat, answers) {
    const busy = () => chat.status === "submitted" || chat.status === "streaming";
    const { lastAssistantMessageIsCompleteWithToolCalls } = ai7;
    const waits = () => answers && lastAssistantMessageIsCompleteWithToolCalls({ messages: chat.messages });
    for (let turn = 0; turn < 2000 && (busy() || waits()); turn++) {
        if (chat.status === "error") return;
        await new Promise((resolve) => setTimeout(resolve, 5));
    }
}

export async function completion({ major = 7, url, prompt, body = {}, streamProtocol = "data" }) {
    const heard = {};
    const nothing = () => undefined;
    heard.given = await MAJORS[major].callCompletionApi({
        api: `${url}/api/completion`,
        prompt,
        body,
        streamProtocol,
        setCompletion: (text) => (heard.text = text),
        setLoading: nothing,
        setAbortController: nothing,
        setError: (error) => (heard.error = error?.message),
    });
    return heard;
}
