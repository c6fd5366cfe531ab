"""kill -9 in the middle of a session: what had ended is settled, the answer under way is unknown, none is lost."""

from __future__ import annotations

from pathlib import Path

from openai import AsyncOpenAI

from tests.crash.killing import Killable
from tests.realtime.ground import COST, KEY, config, cost, events, keys
from tests.realtime.provider import realtime_provider
from tests.stores import Store


async def test_a_gateway_that_is_killed_loses_no_answer_that_had_ended(tmp_path: Path, store: Store) -> None:
    async with realtime_provider() as provider:
        killable = Killable(tmp_path, config(provider, keys(), cost()), store)
        await killable.start()
        async with AsyncOpenAI(base_url=killable.url + "/v1", api_key=KEY) as client:
            connection = await client.realtime.connect(model="voice").enter()
            for _ in range(3):
                await connection.response.create()
                await events(connection, "response.done")
            await connection.response.create(response={"metadata": {"pieces": "1000", "between": "0.02"}})
            # Beyond the batch, which is what a kill may cost.
            for _ in range(60):
                await events(connection, "response.output_audio.delta")
            killable.kill()
            await killable.gone()
            await connection.close()
        await killable.start()
        try:
            sql = "SELECT operation, state, cost_nano_usd FROM calls ORDER BY started_at"
            found = [tuple(row) for row in store.rows(sql)]
        finally:
            await killable.stop()
    assert found == [("realtime_response", "settled", COST)] * 3 + [("realtime_response", "unknown", None)]
