"""Sessions of OpenAI Realtime through the gateway, by OpenAI's own client."""

from __future__ import annotations

from tests.plugins.collector import collector
from tests.realtime.ground import COST, cost, events, gateway_for, keys, rows, session
from tests.realtime.provider import SILENCE, SPEECH, realtime_provider


async def test_a_response_is_relayed_and_on_record_with_what_its_provider_says_it_used() -> None:
    async with realtime_provider() as provider, gateway_for(provider, keys(), cost()) as running:
        async with session(running) as connection:
            created = await connection.recv()
            assert created.session.model == "gpt-realtime"
            await connection.response.create()
            heard = await events(connection, "response.done")
            types = [event.type for event in heard]
            assert types.count("response.output_audio.delta") == 3
            assert heard[-1].response.usage.output_tokens == 121
            [line] = await rows(running, 1)
            assert (line["operation"], line["model"], line["caller"]) == ("realtime_response", "voice", "ann")
            assert (line["input_tokens"], line["output_tokens"], line["cached_tokens"]) == (132, 121, 64)
            assert line["cost_nano_usd"] == COST
            assert line["ending"] == "complete"
        [_, over] = await rows(running, 2)
        assert (over["operation"], over["delivery"], over["ending"]) == ("realtime", "socket", "complete")
        assert (over["input_tokens"], over["cost_nano_usd"]) == (0, 0)
        voice = provider.voices[0]
        assert voice.query == {"model": "gpt-realtime"}
        assert voice.headers["Authorization"] == "Bearer sk-of-the-provider"
        kept = await running.service.ledger.call(line["call"])
        assert kept is not None
        row, attempts = kept
        assert (row.audio_input_tokens, row.audio_output_tokens, row.state) == (9, 91, "settled")
        assert attempts[0].provider_id == "resp_1"


async def test_talking_over_the_answer_stops_it_and_what_it_used_is_on_record() -> None:
    async with realtime_provider() as provider, gateway_for(provider, keys(), cost()) as running:
        async with session(running) as connection:
            await connection.session.update(
                session={"type": "realtime", "audio": {"input": {"transcription": {"model": "gpt-4o-mini-transcribe"}}}}
            )
            await connection.response.create(response={"metadata": {"pieces": "10000", "between": "0.01"}})
            await events(connection, "response.output_audio.delta")
            await connection.input_audio_buffer.append(audio=SPEECH)
            stopped = (await events(connection, "response.done"))[-1]
            assert stopped.response.status == "cancelled"
            await connection.input_audio_buffer.append(audio=SILENCE)
            await events(connection, "response.done")
        lines = {(line["operation"], line["ending"]): line for line in await rows(running, 4)}
        assert set(lines) == {
            ("realtime_response", "cancelled"),
            ("realtime_transcription", "complete"),
            ("realtime_response", "complete"),
            ("realtime", "complete"),
        }
        assert lines["realtime_response", "cancelled"]["output_tokens"] == 121
        assert lines["realtime_response", "complete"]["cost_nano_usd"] == COST
        written = lines["realtime_transcription", "complete"]
        assert (written["input_tokens"], written["output_tokens"]) == (14, 3)
        assert written["cost_nano_usd"] == (14 * 3 + 3 * 5) * 1000
        assert written["attempts"][0]["target"] == "gpt-4o-mini-transcribe"


async def test_responses_are_spans_of_their_session() -> None:
    async with collector() as kept:
        trace = {"use": "trace", "settings": {"endpoint": kept.url}}
        async with realtime_provider() as provider, gateway_for(provider, trace) as running:
            async with session(running) as connection:
                await connection.response.create()
                await events(connection, "response.done")
            lines = await rows(running, 2)
        assert [line["operation"] for line in lines] == ["realtime_response", "realtime"]
        assert lines[0]["trace_id"] == lines[1]["trace_id"] is not None
