"""`sidegate explain --call`: what a running gateway remembers of a call, for people and for programs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import trustme

from sidegate import cli
from sidegate.commands.explain_call_lines import lines, time
from sidegate.testing import Exchange, scripted
from tests.admin.ground import KEY, Desk, administered, config
from tests.admin.test_calls import Looks, Refuses, use


async def explained(desk: Desk, folder: Path, call: str, *words: str, key: str = KEY) -> int:
    """The command, with a config that says where the gateway listens; in a thread, for it waits for the gateway."""
    port = int(desk.running.admin_url.rpartition(":")[2])
    path = folder / "sidegate.json"
    path.write_text(json.dumps({**config(), "admin": {"port": port, "key": key}}))
    return await asyncio.to_thread(cli.main, ["explain", str(path), "--call", call, *words])


async def test_people_see_what_each_plugin_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with administered(config(*use(Looks))) as desk:
        id = await desk.says(stream=True)
        assert await explained(desk, tmp_path, id) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"call {id}: chat of demo, stream"
    assert said[1].startswith("complete (status 200) after ")
    assert said[2].startswith("caller ann, key ")
    assert said[3] == "tokens 1 input, 49 output, cost 0.000099000 USD"
    rows = {line.split()[0]: line for line in said[5:] if line}
    assert rows["cost"].endswith("add at the end")
    assert rows["Looks"].endswith("look")
    assert "passed it on" in rows["api_key"]
    assert rows["1"].split()[1:4] == ["demo", "demo", "complete"]
    assert said[-1].startswith("attempts ")


async def test_who_refused_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with administered(config(*use(Refuses, Looks))) as desk:
        assert await explained(desk, tmp_path, await desk.says(status=403)) == 0
    said = capsys.readouterr().out
    assert "refused (status 403, not_today by Refuses)" in said
    assert "not reached" in said
    assert "No provider was asked." in said


async def test_programs_get_what_the_gateway_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with administered(config()) as desk:
        id = await desk.says()
        dashed = f"{id[:8]}-{id[8:12]}-{id[12:16]}-{id[16:20]}-{id[20:]}"
        assert await explained(desk, tmp_path, dashed, "--json") == 0
        assert json.loads(capsys.readouterr().out) == await desk.asks(f"/admin/calls/{id}")


async def test_a_call_that_runs_is_shown_as_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with administered(config()) as desk, desk.streaming() as stream:
        assert await explained(desk, tmp_path, stream.headers["x-request-id"]) == 0
    assert "in flight for " in capsys.readouterr().out


async def test_a_call_that_is_not_remembered_has_its_attempts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forgets = config()
    forgets["admin"]["trails"] = 0
    async with administered(forgets) as desk:
        assert await explained(desk, tmp_path, await desk.says()) == 0
    said = capsys.readouterr().out
    assert "is not remembered" in said
    assert "1        demo      demo   complete" in said


async def test_what_cannot_be_told_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with administered(config()) as desk:
        id = await desk.says()
        for call, words, key, expected in (
            ("nonsense", (), KEY, "--call: is the id of a call"),
            ("0" * 32, (), KEY, f"--call: {'0' * 32} is no call that this gateway knows"),
            (id, (), "another-key-of-32-characters-000", "admin: the gateway says: The admin key is not valid."),
            (id, ("--admin", "localhost"), KEY, "--admin: is a URL"),
            (id, ("--admin", "http://127.0.0.1:9"), KEY, "admin: no gateway answers at 127.0.0.1:9"),
        ):
            assert await explained(desk, tmp_path, call, *words, key=key) == 2
            said = capsys.readouterr()
            assert said.err.startswith(expected), said.err
            assert said.err.count("\n") == 1
            assert key not in said.err + said.out


async def test_another_server_that_answers_in_json_is_no_gateway(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def answers(exchange: Exchange) -> None:
        await exchange.reply(b'{"status": "fine"}')

    async with administered(config()) as desk, scripted(answers) as other:
        id = await desk.says()
        assert await explained(desk, tmp_path, id, "--admin", other.url) == 2
    assert capsys.readouterr().err == "admin: what answers there is no gateway\n"


def test_what_a_client_chose_does_not_command_the_terminal() -> None:
    call: dict[str, Any] = {
        "id": "0" * 32,
        "operation": "chat",
        "model_asked": "a\x1b[2Jb",
        "delivery": "stream",
        "state": "settled",
        "ending": "complete",
        "status": 200,
        "error": None,
        "plugin": None,
        "first_token": None,
        "duration": 1.0,
        "caller": "x\ny",
        "route": "default",
        "input_tokens": None,
        "output_tokens": 5,
        "estimated": True,
        "cost_nano_usd": None,
        "attempts": [],
        "trail": None,
    }
    said = "\n".join(lines(call))
    assert "\x1b" not in said
    assert "caller x\\ny" in said
    assert "tokens unknown input, 5 output (estimated in part), cost unknown" in said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0, "0 us"), (0.000051, "51 us"), (0.0012345, "1.23 ms"), (0.5, "500 ms"), (2.0, "2 s"), (1234.0, "1,234 s")],
)
def test_a_time_has_the_unit_that_fits(seconds: float, said: str) -> None:
    assert time(seconds) == said


@pytest.mark.parametrize("how", ["unix", "tls"])
async def test_it_asks_where_the_gateway_listens(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through a Unix socket, and over TLS with the gateway's own certificate."""
    admin: dict[str, Any] = {"unix": {"path": str(tmp_path / "admin.sock")}, "key": KEY}
    if how == "tls":
        authority = trustme.CA()
        authority.issue_cert("gateway.example").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
        admin = {"port": 0, "key": KEY, "tls": {"certificate": str(tmp_path / "own.pem")}}
    async with administered({**config(), "admin": admin}) as desk:
        id = await desk.says()
        if how == "tls":
            admin["port"] = int(desk.running.admin_url.rpartition(":")[2])
        path = tmp_path / "sidegate.json"
        path.write_text(json.dumps({**config(), "admin": admin}))
        assert await asyncio.to_thread(cli.main, ["explain", str(path), "--call", id]) == 0
    assert capsys.readouterr().out.startswith(f"call {id}: ")
