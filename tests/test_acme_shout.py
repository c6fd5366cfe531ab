"""The example of a plugin of one's own: its own tests pass, and the config that uses it both ways works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from sidegate.config import read_config
from sidegate.config.document import read_document
from sidegate.testing import gateway

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "acme-shout"
CONFIG = ROOT / "config" / "examples" / "in-house-plugin.yaml"


def test_its_own_tests_pass() -> None:
    paths = os.pathsep.join(str(ROOT / name) for name in ("service", "plugins"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_it_is_a_model_of_brevity() -> None:
    lines = (EXAMPLE / "src" / "acme_shout" / "__init__.py").read_text().splitlines()
    assert len(lines) <= 100


@pytest.mark.usefixtures("acme_shout")
def test_the_config_is_read() -> None:
    uses = read_config(CONFIG, {}).settings.pipelines["main"].plugins
    assert [use.use for use in uses] == ["acme_shout", "acme_shout:Shout"]


@pytest.mark.usefixtures("acme_shout")
@pytest.mark.parametrize("stream", [False, True])
async def test_words_are_replaced_by_both_on_the_way_to_a_client(stream: bool) -> None:
    question = "Hello Acme Corp, hello acmeology"
    async with gateway(read_document(CONFIG)) as running:
        async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as ai:
            text = ""
            if stream:
                events = await ai.chat.completions.create(
                    model="demo-echo", messages=[{"role": "user", "content": question}], stream=True
                )
                async for event in events:
                    text += event.choices[0].delta.content or ""
            else:
                whole = await ai.chat.completions.create(
                    model="demo-echo", messages=[{"role": "user", "content": question}]
                )
                text = whole.choices[0].message.content or ""
    assert text == "HELLO ACME Corp, HELLO acmeology"
