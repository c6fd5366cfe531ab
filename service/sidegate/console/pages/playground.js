// The playground: a call as a client makes it, through the whole pipeline, and what became of it.

import { ask } from "../api.js";
import { choice, element, field, fill, say } from "../element.js";
import { DIALECTS } from "../playground/dialects.js";
import { Run } from "../playground/run.js";
import { curl, python } from "../playground/snippets.js";
import { facts } from "../tables.js";
import { amount, count, known, span, tag } from "../words.js";
import { attempts, trailOf } from "./call.js";

const KEPT_KEY = "sidegate.playground-key";
const MOST_EVENTS = 2000;

/** Made once: a call goes on while its user looks at other pages. */
let stage = null;

export async function show({ page, signal }) {
    const [routes, models, status] = await Promise.all(["routes", "models", "status"].map((name) => ask(`/admin/${name}`, { signal })));
    if (signal.aborted) return;
    stage ??= new Stage();
    stage.offer(routes.data, models.data, status.urls);
    fill(page, stage.node);
}

class Stage {
    #run = null;

    constructor() {
        this.make();
        this.form.addEventListener("submit", (event) => {
            event.preventDefault();
            this.start();
        });
        this.stop.addEventListener("click", () => this.#run?.stop());
        this.form.addEventListener("input", () => this.write());
    }

    make() {
        const plain = { autocomplete: "off", spellcheck: "false" };
        this.route = choice([], null, { name: "route" });
        this.dialect = choice(Object.entries(DIALECTS).map(([name, { title }]) => [name, title]), "openai.chat", { name: "dialect" });
        this.model = element("input", { name: "model", list: "models", required: true, ...plain });
        this.models = element("datalist", { id: "models" });
        this.key = element("input", { type: "password", autocomplete: "off", name: "client-key" });
        this.key.value = sessionStorage.getItem(KEPT_KEY) ?? "";
        this.key.addEventListener("change", () => sessionStorage.setItem(KEPT_KEY, this.key.value));
        this.most = element("input", { name: "most", type: "number", min: 1, step: 1, inputmode: "numeric" });
        this.stream = element("input", { name: "stream", type: "checkbox", checked: true, id: "stream" });
        this.system = element("textarea", { name: "system", rows: 2 });
        this.prompt = element("textarea", { name: "prompt", rows: 4, required: true });
        this.prompt.value = "Hello! What can you do?";
        this.more = element("textarea", { name: "more", rows: 2, placeholder: '{"temperature": 0.2}', class: "mono", spellcheck: "false" });
        this.send = element("button", { type: "submit", class: "first" }, "Send");
        this.stop = element("button", { type: "button", class: "stop", disabled: true }, "Stop");
        this.problem = element("p", { class: "problem", role: "alert", hidden: true });
        this.form = element("form", { class: "sheet", "aria-label": "Request" }, [
            element("div", { class: "fields" }, [
                field("Route", this.route), field("Dialect", this.dialect), field("Model", this.model), this.models,
                field("Longest reply, tokens", this.most),
                field("Client's key, if one is wanted", this.key),
                element("div", { class: "check" }, [this.stream, element("label", { for: "stream" }, "Stream")]),
                field("Prompt", this.prompt, { wide: true }),
            ]),
            element("details", {}, [element("summary", {}, "System prompt and further fields"), element("div", { class: "fields" }, [
                field("System prompt", this.system, { wide: true }), field("Further fields of the body, JSON", this.more, { wide: true }),
            ])]),
            element("div", { class: "row" }, [this.send, this.stop, element("span", { class: "hint" }, "A real call: it passes the pipeline, its limits and budgets, and is recorded.")]),
            this.problem,
        ]);
        this.node = element("div", { class: "page" }, [
            element("div", { class: "halves" }, [this.form, this.#answered()]),
            this.#copied(),
            (this.record = element("div", { class: "page" })),
        ]);
    }

    #answered() {
        this.figures = element("div", {});
        this.answer = element("div", { class: "answer", role: "log", "aria-label": "Answer", tabindex: 0 });
        this.events = element("ol", { class: "events", tabindex: 0, "aria-label": "Events as they came" });
        this.heard = element("summary", {}, "Events");
        return element("section", { class: "sheet", "aria-labelledby": "answer" }, [
            element("h2", { id: "answer" }, "Answer"), this.figures, this.answer, element("details", { open: true }, [this.heard, this.events]),
        ]);
    }

    #copied() {
        this.code = element("pre", { class: "code", tabindex: 0 });
        this.as = "curl";
        const kinds = [["curl", "curl"], ["python", "Python"]].map(([kind, title]) => {
            const button = element("button", { type: "button", "aria-pressed": kind === this.as ? "true" : "false" }, title);
            button.addEventListener("click", () => {
                this.as = kind;
                kinds.forEach((each) => each.setAttribute("aria-pressed", each === button ? "true" : "false"));
                this.write();
            });
            return button;
        });
        const copy = element("button", { type: "button" }, "Copy");
        const told = element("span", { class: "hint", role: "status" });
        copy.addEventListener("click", async () => {
            try {
                await navigator.clipboard.writeText(this.code.textContent);
                say(told, "Copied.");
            } catch {
                getSelection().selectAllChildren(this.code);
                say(told, "Selected: copy it by the keyboard.");
            }
        });
        return element("section", { class: "sheet", "aria-labelledby": "code" }, [
            element("div", { class: "row spread" }, [element("h2", { id: "code" }, "The same call elsewhere"), element("div", { class: "row" }, [kinds, copy, told])]),
            this.code,
        ]);
    }

    offer(routes, models, urls) {
        const chosen = this.route.value;
        this.routes = routes.filter((route) => route.operations === null || route.operations.includes("chat"));
        fill(this.route, this.routes.map((route) => element("option", { value: route.name }, `${route.name} ${route.prefix}`)));
        if (this.routes.some((route) => route.name === chosen)) this.route.value = chosen;
        const names = models.map((model) => model.name).filter((name) => !name.endsWith("*"));
        fill(this.models, names.map((name) => element("option", { value: name })));
        this.model.value ||= names.find((name) => name === "demo") ?? names[0] ?? "";
        this.urls = urls;
        this.write();
    }

    get prefix() {
        return this.routes.find((route) => route.name === this.route.value)?.prefix ?? "";
    }

    /** What the form says. Throws where the further fields are no JSON object. */
    asked() {
        const text = this.more.value.trim();
        const more = text ? JSON.parse(text) : {};
        if (more === null || typeof more !== "object" || Array.isArray(more)) throw new SyntaxError("an object is wanted");
        return {
            model: this.model.value.trim(), system: this.system.value, prompt: this.prompt.value, most: Number(this.most.value) || 0,
            stream: this.stream.checked, more,
        };
    }

    write() {
        try {
            const made = this.as === "curl" ? curl : python;
            const base = this.urls.find((each) => each.startsWith("http")) ?? this.urls[0] ?? "http://127.0.0.1:8080";
            say(this.code, made(this.dialect.value, this.asked(), base, this.prefix));
            this.#say("");
        } catch (error) {
            this.#say(`The further fields: ${error.message}`);
        }
    }

    #say(why) {
        this.problem.hidden = !why;
        say(this.problem, why);
    }

    async start() {
        if (this.#run !== null) return;
        let asked;
        try {
            asked = this.asked();
        } catch (error) {
            return void this.#say(`The further fields: ${error.message}`);
        }
        const run = new Run(this.dialect.value, asked, this.prefix, this.key.value.trim());
        this.#run = run;
        this.#begin(run);
        await run.go();
        this.#figures(run);
    }

    #begin(run) {
        this.#say("");
        fill(this.answer);
        fill(this.events);
        fill(this.record);
        this.send.disabled = true;
        this.stop.disabled = false;
        let events = 0;
        run.addEventListener("head", () => this.#figures(run));
        run.addEventListener("piece", ({ detail }) => this.#piece(run, detail));
        run.addEventListener("event", ({ detail }) => {
            say(this.heard, `Events: ${(events += 1)}`);
            if (events <= MOST_EVENTS) this.events.append(element("li", {}, [element("time", {}, `${detail.at.toFixed(3)} s`), detail.raw]));
        });
        run.addEventListener("over", () => {
            this.#run = null;
            this.send.disabled = false;
            this.stop.disabled = true;
            this.#say(run.problem ?? "");
            this.#figures(run);
        });
        run.addEventListener("record", () => {
            fill(this.record, attempts(run.record.attempts), trailOf(run.record.trail));
        });
        this.#figures(run);
    }

    #piece(run, { kind, text }) {
        const last = this.answer.lastChild;
        if (last?.dataset?.kind === kind) last.append(text);
        else this.answer.append(element("span", { class: kind, "data-kind": kind }, text));
        if (this.shownFirst !== run) this.#figures(run);
        this.shownFirst = run;
    }

    #figures(run) {
        const { record } = run;
        const state = record ? tag(record.ending) : run.seconds === null ? tag("in_flight") : run.stopped ? tag("stopped") : tag("over", "");
        fill(this.figures, facts([
            ["State", state],
            ["First token, seen here", span(run.firstToken) ?? "–"],
            ["Took, seen here", span(run.seconds) ?? "–"],
            ["First token, at the gateway", record ? (span(record.first_token) ?? "–") : "–"],
            ["Tokens in, out", record ? [known(count(record.input_tokens)), " in, ", known(count(record.output_tokens)), record.estimated ? " out, estimated" : " out"] : "–"],
            ["Cost", record ? (record.attempts.length ? amount(record.cost_nano_usd) : "no attempt, no cost") : "–"],
            ["HTTP status", count(run.status) ?? "–"],
            ["Call", run.id ? element("a", { href: `#/calls/${run.id}`, class: "mono" }, `…${run.id.slice(-10)}`) : "–"],
        ]));
    }
}
