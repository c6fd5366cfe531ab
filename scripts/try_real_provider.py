"""Talks to `transformers serve` through the gateway, in two vendors' shapes, and prints what passed.

The server is nobody's fake: it ends a stream without `[DONE]` and tells usage in its last chunk, asked or not. Whatever
is started here is stopped here, by its own process id.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
READY_SECONDS = 180
STOP_SECONDS = 20
QUESTION = "What may I do with the Work?"

CONFIG = """
listen: {{port: {port}}}
admin: null
state: state
providers:
  local: {{dialect: openai, base_url: "http://127.0.0.1:{provider_port}/v1"}}
models:
  tiny: {{provider: local, model: "{model}"}}
pipelines:
  main:
    plugins:
      - use: cost
        settings: {{prices: {{"*": {{input: 0.15, output: 0.60}}}}}}
routes:
  - {{name: main, pipeline: main}}
"""


def main() -> None:
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sidegate-real-")))
        model = work / "tiny"
        began = time.monotonic()
        parameters = make_model(ROOT / "LICENSE", model)
        print(f"model     {parameters:,} random weights, a vocabulary from LICENSE: {time.monotonic() - began:.1f} s")
        provider_port, port = free_ports()
        serve = [
            BIN / "transformers",
            "serve",
            model,
            "--host",
            "127.0.0.1",
            "--port",
            provider_port,
            "--device",
            "cpu",
        ]
        stack.enter_context(running("provider", serve, f"http://127.0.0.1:{provider_port}/health", work))
        config = work / "sidegate.yaml"
        config.write_text(CONFIG.format(port=port, provider_port=provider_port, model=model))
        gateway = [BIN / "sidegate", "serve", config]
        stack.enter_context(running("gateway", gateway, f"http://127.0.0.1:{port}/readyz", work))
        talk(provider_port, port, str(model))


def talk(provider_port: int, port: int, model: str) -> None:
    """The provider by itself first, so that one sees what the gateway adds; then the same through the gateway."""
    chat = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 8}
    exchange("the provider by itself, streamed", provider_port, "/v1/chat/completions", {**chat, "model": model}, True)
    asked = {**chat, "model": "tiny"}
    for stream, how in ((False, "buffered"), (True, "streamed")):
        for shape, path, end in (
            ("OpenAI's", "/v1/chat/completions", "data: [DONE]"),
            ("Anthropic's", "/v1/messages", 'data: {"type":"message_stop"}'),
        ):
            call_id, last = exchange(f"{shape} shape, {how}", port, path, asked, stream)
            record(port, call_id)
            if stream and last != end:
                raise SystemExit(f"the stream has no clean end: {last}")


def exchange(title: str, port: int, path: str, asked: Mapping[str, Any], stream: bool) -> tuple[str, str]:
    """One request, printed as it goes. Gives the request's id and the last line that came."""
    body = json.dumps({**asked, "stream": stream})
    print(f"\n=== {title}\n> POST :{port}{path}\n> {body}")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    began = time.monotonic()
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    print(f"< {reply.status} {reply.headers['Content-Type']}, x-request-id: {reply.headers['x-request-id']}")
    last = ""
    while line := reply.readline():
        if text := line.decode().rstrip("\n"):
            last = text
            print(f"< {(time.monotonic() - began) * 1000:6.1f} ms  {text}")
    connection.close()
    if stream:
        print("  ended " + ("by its marker" if "[DONE]" in last or "message_stop" in last else "WITHOUT a marker"))
    return reply.headers["x-request-id"], last


def record(port: int, call_id: str) -> None:
    """What the gateway has on record of the call."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", f"/v1/calls/{call_id}")
    row = json.loads(connection.getresponse().read())
    connection.close()
    shown = (
        "ending",
        "state",
        "input_tokens",
        "output_tokens",
        "estimated",
        "cost_nano_usd",
        "first_token",
        "duration",
    )
    print(f"> GET :{port}/v1/calls/{call_id}\n< " + json.dumps({name: row.get(name) for name in shown}))
    if row["ending"] != "complete" or row["estimated"] or not row["output_tokens"]:
        raise SystemExit(f"not a clean end with usage: {row}")


@contextmanager
def running(name: str, command: list[Any], probe: str, work: Path) -> Iterator[None]:
    """A process of ours, from its first good answer to its end."""
    log = work / f"{name}.log"
    began = time.monotonic()
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(work / "hub")}
    with log.open("wb") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out, env=environ)
    try:
        await_ready(process, probe, log)
        print(f"{name:<9} process {process.pid} answers at {probe} after {time.monotonic() - began:.1f} s")
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        print(f"{name:<9} process {process.pid} stopped, exit code {process.returncode}")


def await_ready(process: subprocess.Popen[bytes], probe: str, log: Path) -> None:
    host, _, path = probe.removeprefix("http://").partition("/")
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection(host, timeout=5)
        try:
            connection.request("GET", "/" + path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    raise SystemExit(f"not ready at {probe}:\n{log.read_text(errors='replace')[-4000:]}")


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def make_model(text: Path, directory: Path) -> int:
    """A Llama of random weights, and a byte-level vocabulary trained from `text`. Gives the number of weights."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()
    vocabulary = ByteLevelBPETokenizer()
    vocabulary.train([str(text)], vocab_size=1024, special_tokens=["<s>", "</s>"], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=vocabulary._tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "
    torch.manual_seed(7)
    shape = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(shape)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return int(model.num_parameters())


if __name__ == "__main__":
    main()
