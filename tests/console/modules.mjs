// What the console's modules without a page do, looked at by Node: money, events, dialects, snippets.
import assert from "node:assert/strict";
import test from "node:test";

const folder = process.env.SIDEGATE_CONSOLE;
const [money, { Splitter }, { said, wrong, request, DIALECTS }, { literal, quoted, curl }] = await Promise.all(
    ["money.js", "events.js", "playground/dialects.js", "playground/snippets.js"].map((name) => import(`${folder}/${name}`)),
);

test("money is exact, also where a number is not", () => {
    assert.equal(money.usd(0), "$0.00");
    assert.equal(money.usd(1), "$0.000000001");
    assert.equal(money.usd(3750), "$0.00000375");
    assert.equal(money.usd(1_500_000_000), "$1.50");
    assert.equal(money.usd("9007199254740993000000001"), "$9,007,199,254,740,993.000000001");
    assert.equal(money.usd(-2_000_000_001), "-$2.000000001");
    assert.equal(money.usdText("3452.134281000"), "$3,452.134281");
});

test("what nobody knows is not nothing", () => {
    for (const nothing of [null, undefined]) {
        assert.equal(money.usd(nothing), null);
        assert.equal(money.usdText(nothing), null);
        assert.equal(money.roughly(nothing), null);
    }
});

test("amounts beyond 2^53 survive JSON, and text that looks like one stays text", () => {
    const found = money.parse('{"cost_nano_usd":9007199254740993,"n":1,"s":"\\"cost_nano_usd\\":9007199254740993,"}');
    assert.equal(money.usd(found.cost_nano_usd), "$9,007,199.254740993");
    assert.equal(found.s, '"cost_nano_usd":9007199254740993,');
    assert.equal(money.parse('{"cost_nano_usd":-9007199254740993}').cost_nano_usd, "-9007199254740993");
    assert.equal(money.parse('{"cost_nano_usd":12}').cost_nano_usd, 12);
});

test("a share is between none and all", () => {
    assert.equal(money.share(1, 4), 0.25);
    assert.equal(money.share("9007199254740993", "9007199254740993"), 1);
    assert.equal(money.share(5, 4), 1);
    assert.equal(money.share(null, 4), 0);
    assert.equal(money.share(1, 0), 0);
});

test("events are whole however their bytes come", () => {
    const text = ": ping\n\nevent: a\ndata: 1\ndata: 2\n\r\nid: 7\rdata:x\r\r".replace("\n\r\n", "\n\n") + "data: é🦊\r\n\r\ndata: rest";
    for (let size = 1; size < 12; size += 1) {
        const splitter = new Splitter();
        const found = [];
        for (let at = 0; at < text.length; at += size) found.push(...splitter.feed(text.slice(at, at + size)));
        assert.deepEqual(found.map(({ name, data, id }) => [name, data, id]), [
            ["message", null, null], ["a", "1\n2", null], ["message", "x", "7"], ["message", "é🦊", null],
        ]);
        assert.equal(splitter.rest, "data: rest");
    }
});

test("text, thinking and tools are told apart in each dialect", () => {
    const chat = { choices: [{ index: 0, delta: { reasoning_content: "hm", content: "Hi", tool_calls: [{ function: { name: "f", arguments: "{" } }] } }, { index: 1, delta: { content: "no" } }] };
    assert.deepEqual(said("openai.chat", chat), [{ kind: "reasoning", text: "hm" }, { kind: "text", text: "Hi" }, { kind: "tool", text: "\nf {" }]);
    assert.deepEqual(said("openai.responses", { type: "response.output_text.delta", delta: "Hi" }), [{ kind: "text", text: "Hi" }]);
    assert.deepEqual(said("openai.responses", { type: "response.completed", response: { output: [] } }), []);
    assert.deepEqual(said("anthropic.messages", { type: "content_block_delta", delta: { type: "thinking_delta", thinking: "hm" } }), [{ kind: "reasoning", text: "hm" }]);
    const part = { candidates: [{ content: { parts: [{ text: "hm", thought: true }, { text: "Hi" }, { functionCall: { name: "f", args: { a: 1 } } }] } }] };
    assert.deepEqual(said("gemini.generate", part), [{ kind: "reasoning", text: "hm" }, { kind: "text", text: "Hi" }, { kind: "tool", text: '\nf {"a":1}' }]);
});

test("what is no reply says nothing, and breaks nothing", () => {
    for (const name of Object.keys(DIALECTS)) {
        for (const odd of [null, 1, "x", [], {}, { choices: [{}] }, { candidates: [{}] }, { type: "content_block_start" }]) {
            assert.deepEqual(said(name, odd), [], `${name} ${JSON.stringify(odd)}`);
        }
    }
});

test("errors are told in each dialect", () => {
    assert.equal(wrong({ error: { message: "no" } }), "no");
    assert.equal(wrong({ type: "error", message: "no" }), "no");
    assert.equal(wrong({ type: "response.failed", response: { error: { code: "x" } } }), "x");
    assert.equal(wrong({ type: "response.completed", response: { error: null } }), null);
    assert.equal(wrong(null), null);
});

test("what is copied is what was asked, whatever stands in it", () => {
    assert.equal(quoted("it's"), "'it'\\''s'");
    assert.equal(literal({ a: [true, null, "x\n"], b: 1.5 }), '{"a": [True, None, "x\\n"], "b": 1.5}');
    const asked = { model: "a/b c", system: "", prompt: "hi", most: 0, stream: true, more: { temperature: 0 } };
    assert.equal(request("gemini.generate", asked).path, "/v1beta/models/a/b%20c:streamGenerateContent?alt=sse");
    assert.deepEqual(request("openai.chat", asked).body.temperature, 0);
    assert.match(curl("openai.chat", asked, "unix:/run/s.sock"), /^curl -N --unix-socket '\/run\/s.sock' 'http:\/\/localhost\/v1/);
});
