"""What is told while the config changes, of jobs, and of processes that cannot be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidegate.calls import Calls
from sidegate.config import read_mapping
from sidegate.contract.host import SystemClock
from sidegate.errors import Refusal
from sidegate.ledger.store import NullLedger
from sidegate.signals.asking import Heard, LocalSignals, Question, Signals
from tests.admin.ground import Desk, administered, config, until

# --- reload -----------------------------------------------------------------------------------------------------------


async def test_after_a_reload_what_is_told_is_of_the_config_in_force(tmp_path: Path) -> None:
    before = config(state=str(tmp_path), listen={"port": 0})
    async with administered(before) as desk:
        old = await desk.says()
        async with desk.http.get(desk.running.admin_url + "/openapi.json") as reply:
            assert reply.status == 401
        after = config({"use": "log"}, state=str(tmp_path), listen={"port": 0})
        after["models"]["fresh"] = {"provider": "demo"}
        await desk.running.gateway.reload("test", lambda: read_mapping(after, {}, tmp_path))
        status = await desk.asks("/admin/status")
        assert (status["reload"]["generation"], status["reload"]["error"]) == (2, None)
        assert "fresh" in {row["name"] for row in await desk.rows("/admin/models")}
        (pipeline,) = await desk.rows("/admin/pipelines")
        assert [plugin["name"] for plugin in pipeline["plugins"]] == ["api_key", "cost", "log"]
        assert pipeline["plugins"][0]["calls"] == 1
        assert "use: log" in (await desk.asks("/admin/config"))["yaml"]
        # What was remembered before is told as it was.
        assert len((await desk.asks(f"/admin/calls/{old}/trail"))["plugins"]) == 2
        assert len((await desk.asks(f"/admin/calls/{await desk.says()}/trail"))["plugins"]) == 3


async def test_a_call_that_outlives_its_config_has_the_plugins_it_met(tmp_path: Path) -> None:
    before = config({"use": "log"}, state=str(tmp_path), listen={"port": 0})
    async with administered(before) as desk, desk.streaming() as stream:
        after = config(state=str(tmp_path), listen={"port": 0})
        await desk.running.gateway.reload("test", lambda: read_mapping(after, {}, tmp_path))
        id = stream.headers["x-request-id"]
        await desk.asks(f"/admin/calls/{id}", method="DELETE")
        found = await desk.asks(f"/admin/calls/{id}/trail")
        assert [each["name"] for each in found["plugins"]] == ["api_key", "cost", "log"]
        assert found["ending"] == "cancelled"


# --- jobs -------------------------------------------------------------------------------------------------------------


async def accepted(desk: Desk, caller: str, model: str = "demo") -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"Authorization": f"Bearer {caller}", "Prefer": "respond-async"}
    async with desk.http.post(desk.running.url + "/v1/chat/completions", json=body, headers=headers) as reply:
        assert reply.status == 202
        return str((await reply.json())["id"])


async def test_jobs_of_all_callers_are_listed_looked_at_and_cancelled() -> None:
    async with administered(config(jobs={})) as desk:
        anns, bobs = await accepted(desk, "ann"), await accepted(desk, "bob", "slow")

        async def ended() -> Any:
            return (await desk.asks(f"/admin/jobs/{anns}"))["state"] == "completed"

        await until(ended)
        rows = await desk.rows("/admin/jobs")
        assert [(row["id"], row["caller"], row["route"]) for row in rows] == [
            (bobs, "bob", "default"),
            (anns, "ann", "default"),
        ]
        assert "links" not in rows[0]
        assert [row["id"] for row in await desk.rows("/admin/jobs?caller=ann")] == [anns]
        assert [row["id"] for row in await desk.rows("/admin/jobs?state=completed")] == [anns]
        first = await desk.asks("/admin/jobs?limit=1")
        assert ([row["id"] for row in first["data"]], first["next"]) == ([bobs], bobs)
        second = await desk.asks(f"/admin/jobs?limit=1&after={bobs}")
        assert ([row["id"] for row in second["data"]], second["next"]) == ([anns], None)
        cancelled = await desk.asks(f"/admin/jobs/{bobs}", method="DELETE")
        assert cancelled["state"] == "cancelled"
        assert desk.running.log.events("job_cancelled")[0]["job"] == bobs
        call = (await desk.asks(f"/admin/jobs/{anns}"))["call"]
        assert (await desk.asks(f"/admin/calls/{call}"))["delivery"] == "job"
        await desk.asks(f"/admin/jobs/{'0' * 32}", 404)
        for query in ("limit=101", "state=removed", "who=ann"):
            await desk.asks(f"/admin/jobs?{query}", 400)


async def test_without_jobs_there_are_none() -> None:
    async with administered(config()) as desk:
        for path, method in (("", "GET"), (f"/{'0' * 32}", "GET"), (f"/{'0' * 32}", "DELETE")):
            assert (await desk.asks(f"/admin/jobs{path}", 404, method))["code"] == "jobs_off"


# --- others that cannot be asked --------------------------------------------------------------------------------------


class Garbled(LocalSignals):
    """Another gateway, of a version whose words are not known here."""

    async def ask(self, question: Question, *, first: bool) -> Heard:
        return Heard((b'[{"id": "x"}]',), True)


async def test_who_cannot_be_asked_is_not_left_out_in_silence() -> None:
    async with administered(config()) as desk:
        live = desk.running.service.live

        def asking(signals: Signals) -> Calls:
            return Calls(live, NullLedger(SystemClock()), SystemClock(), signals)

        assert await asking(LocalSignals(alone=True)).everywhere() == ([], True)
        assert await asking(LocalSignals(alone=False)).everywhere() == ([], False)
        assert await asking(Garbled(alone=True)).everywhere() == ([], False)
        with pytest.raises(Refusal) as caught:
            await asking(LocalSignals(alone=False)).stop_any("0" * 32)
        assert (caught.value.status, caught.value.code) == (503, "calls_unreachable")
