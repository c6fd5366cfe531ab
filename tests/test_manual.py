"""The commands of the manual, run as they stand before a gateway with the config that their page is about."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.pages import Block, blocks
from tests.test_recipes import Kitchen
from tests.tree import ROOT


class Ground(NamedTuple):
    """What a page's commands need: a config, and whether curl is to fail where it is refused."""

    config: str = "config/sidegate.yaml"
    refused: bool = False


GROUNDS = {
    "README.md": Ground(),
    "docs/admin.md": Ground(),
    "docs/keys.md": Ground(),
    "docs/ledger.md": Ground(),
    "docs/prices.md": Ground(),
    "docs/reload.md": Ground(),
    "docs/usage.md": Ground(),
    "docs/jobs.md": Ground("config/examples/jobs.yaml"),
    "docs/chat-socket.md": Ground("config/examples/conversations.yaml"),
    "docs/plugins/guard.md": Ground("config/examples/guard.yaml", refused=True),
    "docs/plugins/redact.md": Ground("config/examples/redact.yaml"),
}
ELSEWHERE = re.compile(r"^(scripts/|pip |docker |kill |openssl )|…")
"""Lines for other tests, other machines, or with an id that nobody has."""
SHELL = ("sh", "console", "bash", "shell")


def lines_of(block: Block) -> list[str]:
    """Its commands, each in one piece."""
    text = block.text.replace("\\\n", " ")
    found = [line.removeprefix("$ ") for line in _whole(text) if not line.startswith("#")]
    return [line for line in found if line.strip() and not ELSEWHERE.search(line)]


def _whole(text: str) -> Iterator[str]:
    """Lines, but what stands between quotes in one piece."""
    kept = ""
    for line in text.splitlines():
        kept = f"{kept}\n{line}" if kept else line
        if kept.count("'") % 2 == 0:
            yield kept
            kept = ""


def of_page(page: str) -> list[str]:
    every = sorted(blocks(*SHELL) + blocks(*SHELL, checked=False), key=lambda block: block.line)
    return [line for block in every if block.page == ROOT / page for line in lines_of(block)]


@pytest.mark.parametrize("page", GROUNDS)
def test_the_commands_of_a_page_do_what_they_are_there_for(page: str, tmp_path: Path) -> None:
    ground, commands = GROUNDS[page], of_page(page)
    assert commands, "no commands: take the page off the list"
    with ExitStack() as stack:
        cook = Kitchen(tmp_path, stack)
        served(cook, tmp_path, ground)
        for command in commands:
            cook.run(as_here(command, tmp_path))


def served(cook: Kitchen, folder: Path, ground: Ground) -> None:
    """A gateway with a call on record, a key in `$KEY`, and a curl that says when it is refused."""
    text = (ROOT / ground.config).read_text()
    if not re.search(r"^listen:", text, re.MULTILINE):
        text += "\nlisten: {port: 8080}\nadmin: {port: 8081}\n"
    for name in (ground.config, "config/sidegate.yaml", "my.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cook.write(name, text)
    if not ground.refused:
        curl = folder / "bin" / "curl"
        curl.write_text(f'#!/bin/sh\nexec "{shutil.which("curl")}" --fail-with-body -sS "$@"\n')
        curl.chmod(0o755)
    cook.run(f"sidegate serve {ground.config}")
    keys = list(folder.rglob("first.key"))
    cook.environ["KEY"] = keys[0].read_text().strip() if keys else "none"
    cook.environ["SIDEGATE_ADMIN_KEY"] = "none-is-set-here"
    asked = '{"model": "demo", "stream": true, "max_tokens": 3, "messages": [{"role": "user", "content": "Hello"}]}'
    authorization = '-H "Authorization: Bearer $KEY" -H "Content-Type: application/json"'
    cook.run(f"curl -s -D heads.txt http://127.0.0.1:8080/v1/chat/completions {authorization} -d '{asked}'")


def as_here(command: str, folder: Path) -> str:
    """With the id of a call that there was, and the state where it is here."""
    (found,) = re.findall(r"(?i)^x-request-id: (\w+)", (folder / "heads.txt").read_text(), re.MULTILINE)
    command = re.sub(r"\b[0-9a-f]{32}\b", str(found), command)
    if command.startswith("sidegate keys") and "--config" not in command:
        command += " --config config/sidegate.yaml"
    return command
