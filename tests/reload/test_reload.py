"""A reload: what it takes over, what it changes, and what it refuses."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from sidegate.config import ConfigErrors, read_mapping
from sidegate.errors import Refusal
from sidegate.reloading.fixed import LOOSE, changes, check_fixed
from sidegate.settings import Settings
from sidegate.testing import Exchange, demo_config, scripted
from tests.plugins.jwt_issuer import issuer, rsa_key
from tests.plugins.test_jwt_served import jwt, today
from tests.relaying import answers
from tests.reload.ground import Told, config_of, mortal, site, until
from tests.reload.plugins import Mortal

# --- what is wrong with a config changes nothing ----------------------------------------------------------------------


async def test_a_bad_config_changes_nothing_and_says_why(tmp_path: Path) -> None:
    async with site(config_of(tmp_path, reload={"timeout": 0.2}), tmp_path) as on:
        (before,) = on.lives()
        wrong: dict[str, tuple[str, str]] = {
            "made": ("pipelines.main[0]: these settings cannot work", "config_refused"),
            "start": ("pipelines.main[0]: cannot start: the key", "config_refused"),
            "hang": ("pipelines.main[0]: did not start within 0.2 s", "config_refused"),
            "deaf": ("pipelines.main[0]: did not start within 0.2 s", "config_refused"),
            "inherit": ("pipelines.main[0]: cannot take the place of the one before: nothing", "config_refused"),
        }
        for fails, (said, code) in wrong.items():
            plugins = [mortal(on.mark, fails=fails), mortal(on.mark)]
            on.write(pipelines={"main": {"plugins": plugins}}, reload={"timeout": 0.2})
            answer = await on.reload(422)
            assert answer["code"] == code
            assert answer["detail"].startswith(said)
            assert "sk-not-to-be-told" not in on.running.log.data.decode().replace("sk-not-to-be-told-anywhere", "sk-")
        on.write(pipelines={"main": {"plugins": [{"use": "nobody_knows"}]}})
        assert "nobody_knows" in (await on.reload(422))["detail"]
        on.path.write_text("models: [")
        last = (await on.reload(422))["detail"]
        assert "line 1" in last

        assert on.number == 1
        assert before.events == ["start"]
        assert (await on.ask())[0] == 200
        assert before.calls == 1
        tried = on.lives()[1:]
        assert all(each.events in ([], ["start"], ["start", "deaf", "stop"], ["start", "stop"]) for each in tried)
        assert [line["error"] for line in on.running.log.events("reload_failed")][-1] == last
        async with on.http.get(on.running.url + "/readyz?verbose") as reply:
            assert reply.status == 200
            assert f"config 1 is in force: {last}" in await reply.text()
        counted = on.running.service.metrics.registry.get_sample_value
        assert counted("sidegate_config_reloads_total", {"outcome": "failure"}) == len(wrong) + 2
        assert counted("sidegate_config_last_reload_successful") == 0

        on.write(reload={"timeout": 0.2})
        await on.reload()
        assert on.running.service.ground.reloads.error is None
        assert counted("sidegate_config_last_reload_successful") == 1
        assert counted("sidegate_config_generation") == 2
        async with on.http.get(on.running.url + "/readyz?verbose") as reply:
            assert await reply.text() == "ready\n"


async def test_those_that_had_started_are_stopped_where_a_later_one_cannot(tmp_path: Path) -> None:
    async with site(config_of(tmp_path), tmp_path) as on:
        on.write(pipelines={"main": {"plugins": [mortal(on.mark), mortal(on.mark, fails="start")]}})
        await on.reload(422)
        before, first, second = on.lives()
        assert (before.events, first.events, second.events) == (["start"], ["start", "stop"], ["start"])


async def test_what_needs_a_restart_is_named_and_nothing_changes(tmp_path: Path) -> None:
    async with site(config_of(tmp_path), tmp_path) as on:
        on.write(listen={"port": 1}, pipelines={"main": {}})
        answer = await on.reload(409)
        assert answer["code"] == "restart_needed"
        assert answer["detail"] == "listen.port: cannot change while the gateway runs: restart it"
        assert (await on.ask())[0] == 200
        assert on.lives()[0].calls == 1


def settings(**more: Any) -> Settings:
    return read_mapping({**demo_config(), **more}, {}, Path("/nowhere")).settings


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"admin": None}, "admin"),
        ({"admin": {"port": 1}}, "admin.port"),
        ({"counters": {"prefix": "x"}}, "counters.prefix"),
        ({"issued_keys": {"refresh": 5}}, "issued_keys.refresh"),
        ({"jobs": {}}, "jobs"),
        ({"ledger": {"url": ""}}, "ledger.url"),
        ({"listen": {"host": "::1"}}, "listen.host"),
        ({"reload": {"watch": True}}, "reload.watch"),
        ({"state": "elsewhere"}, "state"),
        ({"workers": 2}, "workers"),
    ],
)
def test_what_was_opened_at_the_start_stays(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        check_fixed(settings(), settings(**changed))
    assert [error.place for error in caught.value.errors] == [named]


def test_what_may_change_is_told_by_name() -> None:
    before, after = settings(), settings(translation="strict", server={"drain": 1}, models={"x": {"provider": "demo"}})
    check_fixed(before, after)
    assert changes(before, after) == ("server", "models.demo*", "models.demo", "models.x", "translation")
    assert changes(before, before) == ()


def test_every_setting_that_may_change_exists() -> None:
    plain = msgspec.to_builtins(settings(listen={"cors": {"origins": ["https://a.example"]}}))
    for name in LOOSE:
        part: Any = plain
        for key in name.split("."):
            part = part.get(key, {}) if key == "plugin_prefixes" else part[key]


# --- what goes on -----------------------------------------------------------------------------------------------------


async def test_limits_do_not_begin_anew(tmp_path: Path) -> None:
    limit = {"use": "rate_limit", "settings": {"limits": [{"name": "all", "per": [], "requests": 3, "period": 3600}]}}
    config = config_of(tmp_path)
    config["pipelines"]["main"]["plugins"].append(limit)
    async with site(config, tmp_path) as on:
        assert [(await on.ask())[0] for _ in range(2)] == [200, 200]
        await on.reload()
        assert [(await on.ask())[0] for _ in range(2)] == [200, 429]


async def test_a_slot_that_is_held_counts_after_a_reload(tmp_path: Path) -> None:
    provider = Told()
    limit = {"use": "concurrency", "settings": {"limits": [{"name": "all", "per": [], "calls": 1}]}}
    async with (
        scripted(provider) as upstream,
        site(config_of(tmp_path, upstream.url, limit), tmp_path) as on,
    ):
        asking = asyncio.create_task(on.ask(stream=True))
        await until(lambda: provider.streams)
        await on.reload()
        assert (await on.ask())[0] == 429
        provider.finish("hi")
        assert (await asking)[0] == 200


async def test_an_unchanged_provider_keeps_its_connections_circuits_and_bounds(tmp_path: Path) -> None:
    fails = asyncio.Event()

    async def sick(exchange: Exchange) -> None:
        if fails.is_set():
            await exchange.reply(b"{}", status=500)
        else:
            await answers(exchange)

    async with scripted(sick) as upstream:
        config = config_of(tmp_path, upstream.url)
        circuit = {"min_calls": 2, "open_seconds": 60, "error_rate": 0.5}
        config["providers"]["p"] |= {"circuit": circuit, "retry": {"attempts": 1}}
        async with site(config, tmp_path) as on:
            assert (await on.ask())[0] == 200
            fails.set()
            while "circuit_open" not in (said := (await on.ask())[1]):
                assert "500" in said or "provider" in said
            await on.reload()
            assert "circuit_open" in (await on.ask())[1]
            before = on.running.service.upstreams["p"]
            on.write(models={"m": {"provider": "p"}, "n": {"provider": "p"}})
            await on.reload()
            assert on.running.service.upstreams["p"] is before
            changed = {**config["providers"]["p"], "api_key": "sk-another"}
            on.write(providers={"p": changed})
            await on.reload()
            assert on.running.service.upstreams["p"] is not before
            assert "circuit_open" in (await on.ask())[1], "it is the same place"
            counted = on.running.service.metrics.registry.get_sample_value
            assert counted("sidegate_target_open", {"provider": "p", "model": "m"}) == 1
            on.write(providers={"p": {**changed, "circuit": {**circuit, "open_seconds": 1}}})
            await on.reload()
            fails.clear()
            assert (await on.ask())[0] == 200
            await until(lambda: counted("sidegate_target_open", {"provider": "p", "model": "m"}) == 0)


async def test_a_plugin_takes_over_from_the_one_before(tmp_path: Path) -> None:
    async with site(config_of(tmp_path), tmp_path) as on:
        await on.reload()
        first, second = on.lives()
        assert second.before is first
        on.write(pipelines={"main": {"plugins": [{**mortal(on.mark), "name": "other"}]}})
        await on.reload()
        assert on.lives()[-1].before is None


async def test_counters_of_plugins_go_on(tmp_path: Path) -> None:
    async with site(config_of(tmp_path), tmp_path) as on:
        for _ in range(3):
            await on.ask()
            await on.reload()
        value = on.running.service.metrics.registry.get_sample_value
        assert value("sidegate_plugin_mortal_total", {"who": on.mark}) == 3
        on.write(pipelines={"main": {"plugins": [mortal(on.mark, labels=["who", "where"])]}})
        assert "other labels until the gateway is restarted" in (await on.reload(422))["detail"]
        await on.ask()
        assert value("sidegate_plugin_mortal_total", {"who": on.mark}) == 4


async def test_bounds_count_at_once_for_all_calls_together(tmp_path: Path) -> None:
    provider = Told()
    async with scripted(provider) as upstream, site(config_of(tmp_path, upstream.url), tmp_path) as on:
        asking = asyncio.create_task(on.ask(stream=True))
        await until(lambda: provider.streams)
        on.write(server={"drain": 5, "max_calls": 1, "max_body_bytes": 1024})
        await on.reload()
        status, text, _ = await on.ask()
        assert (status, "overloaded" in text) == (503, True), "the one before counts too"
        provider.finish("hi")
        assert (await asking)[0] == 200
        assert (await on.ask(user="x" * 2000))[0] == 413


async def test_an_answer_that_was_kept_is_told_again_after_a_reload(tmp_path: Path) -> None:
    provider = Told()
    async with (
        scripted(provider) as upstream,
        site(config_of(tmp_path, upstream.url, {"use": "idempotency"}), tmp_path) as on,
    ):
        headers = {"Idempotency-Key": "one"}
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}

        async def ask() -> tuple[str, str | None]:
            async with on.http.post(on.url + "/v1/chat/completions", json=body, headers=headers) as reply:
                return await reply.text(), reply.headers.get("idempotent-replayed")

        first = asyncio.create_task(ask())
        await until(lambda: provider.streams)
        plugins = [mortal(on.mark), {"use": "idempotency", "settings": {"keep": 60}}]
        on.write(pipelines={"main": {"plugins": plugins}})
        await on.reload()
        second = asyncio.create_task(ask())
        await until(lambda: len(on.running.service.live) == 2)
        provider.say("word")
        provider.finish("hi")
        text, replayed = await first
        assert (await second, replayed) == ((text, "true"), None)
        await on.reload()
        assert await ask() == (text, "true")


async def test_an_issuer_that_is_down_does_not_keep_a_config_from_its_place(tmp_path: Path) -> None:
    async with issuer(rsa_key("one")) as there:
        config = config_of(tmp_path)
        config["pipelines"]["main"]["plugins"].append(jwt(there))
        async with site(config, tmp_path) as on:
            there.status = 500
            await on.reload()
            body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
            headers = {"Authorization": f"Bearer {today(there)}"}
            async with on.http.post(on.url + "/v1/chat/completions", json=body, headers=headers) as reply:
                assert reply.status == 200, await reply.text()
            assert (on.number, there.fetches) == (2, 1)


async def test_what_is_not_in_force_any_more_is_forgotten(tmp_path: Path) -> None:
    async with site(config_of(tmp_path), tmp_path) as on:
        services = [weakref.ref(on.running.service)]
        for _ in range(5):
            assert (await on.ask())[0] == 200
            async with on.http.get(on.url + "/v1/models") as reply:
                assert reply.status == 200
            await on.reload()
            services.append(weakref.ref(on.running.service))
        await until(lambda: len(on.running.log.events("generation_stopped")) == 5)
        Mortal.lives.clear()
        # A connection that is kept knows its last request, until the next one.
        await on.http.close()

        def forgotten() -> bool:
            gc.collect()
            return [each() is not None for each in services] == [False] * 5 + [True]

        await until(forgotten)


# --- what changes -----------------------------------------------------------------------------------------------------


async def test_routes_come_and_go_also_on_open_connections(tmp_path: Path) -> None:
    async with site(config_of(tmp_path), tmp_path) as on:
        one = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=one) as http:

            async def ask(path: str) -> tuple[int, Any]:
                body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
                async with http.post(on.url + path, json=body) as reply:
                    await reply.read()
                    assert reply.connection is None or reply.connection.transport is not None
                    return reply.status, len(one._conns)

            assert (await ask("/v1/chat/completions"))[0] == 200
            on.write(routes=[{"name": "team", "pipeline": "main", "prefix": "/team"}])
            assert (await on.reload())["changed"] == ["routes"]
            assert (await ask("/v1/chat/completions"))[0] == 404
            assert (await ask("/team/v1/chat/completions"))[0] == 200
            async with http.get(on.url + "/team/v1/models") as reply:
                assert reply.status == 200
            on.write()
            await on.reload()
            assert (await ask("/team/v1/chat/completions"))[0] == 404
            assert (await ask("/v1/chat/completions"))[0] == 200


async def test_a_request_that_is_still_read_is_served_by_the_config_it_met(tmp_path: Path) -> None:
    async with site(config_of(tmp_path), tmp_path) as on:
        go_on = asyncio.Event()
        body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "hi"}]})

        async def slowly() -> Any:
            yield body[:10]
            await go_on.wait()
            yield body[10:]

        asking = asyncio.create_task(
            on.http.post(on.url + "/v1/chat/completions", data=slowly(), headers={"Content-Type": "application/json"})
        )
        face = on.running.gateway._runners[0].face
        await until(lambda: face.requests == 1)
        on.write(routes=[{"name": "team", "pipeline": "main", "prefix": "/team"}])
        await on.reload()
        await on.reload()
        assert on.lives()[0].events == ["start"]
        go_on.set()
        async with await asking as reply:
            assert reply.status == 200
        await until(lambda: on.lives()[0].events == ["start", "stop"])
        assert (on.lives()[0].calls, on.lives()[0].at_stop) == (1, 0)


async def test_a_call_that_outlives_its_client_keeps_its_config(tmp_path: Path) -> None:
    provider = Told()
    async with scripted(provider) as upstream:
        routes = [{"name": "r", "pipeline": "main", "on_disconnect": "continue"}]
        async with site(config_of(tmp_path, upstream.url, routes=routes), tmp_path) as on:
            asking = asyncio.create_task(on.ask(stream=True))
            await until(lambda: provider.streams)
            asking.cancel()
            face = on.running.gateway._runners[0].face
            await until(lambda: face.requests == 0)
            on.write(models={})
            await on.reload()
            assert on.lives()[0].events == ["start"]
            provider.finish("hi")
            await until(lambda: on.lives()[0].events == ["start", "stop"])
            labels = {"gen_ai_operation_name": "chat", "gen_ai_request_model": "m", "ending": "complete"}
            value = on.running.service.metrics.registry.get_sample_value
            assert value("sidegate_calls_total", {**labels, "gen_ai_provider_name": "openai"}) == 1


async def test_keys_are_read_again_from_their_files(tmp_path: Path) -> None:
    keys: list[str] = []

    async def keyed(exchange: Exchange) -> None:
        keys.append(exchange.headers["authorization"])
        await answers(exchange)

    file = tmp_path / "key"
    file.write_text("sk-first\n")
    async with scripted(keyed) as upstream:
        config = config_of(tmp_path, upstream.url)
        config["providers"]["p"] = {"dialect": "openai", "base_url": upstream.url, "api_key_file": str(file)}
        async with site(config, tmp_path) as on:
            await on.ask()
            file.write_text("sk-second\n")
            assert (await on.reload())["changed"] == ["providers.p"]
            await on.ask()
            file.write_text("")
            await on.reload(422)
            await on.ask()
        assert keys == ["Bearer sk-first", "Bearer sk-second", "Bearer sk-second"]
        assert b"sk-second" not in on.running.log.data


async def test_the_admin_key_is_asked_for_and_may_change(tmp_path: Path) -> None:
    first, second = "an admin key of some length".replace(" ", "-"), "another-admin-key-of-some-length"
    async with site(config_of(tmp_path, admin={"port": 0, "key": first}), tmp_path) as on:
        await on.reload(401)
        await on.reload(401, Authorization="Bearer wrong")
        assert on.number == 1
        on.write(admin={"port": 0, "key": second})
        await on.reload(200, Authorization=f"Bearer {first}")
        await on.reload(401, Authorization=f"Bearer {first}")
        await on.reload(200, Authorization=f"Bearer {second}")
        assert second.encode() not in on.running.log.data


async def test_a_reload_takes_no_config_from_a_request(tmp_path: Path) -> None:
    async with site(config_of(tmp_path), tmp_path) as on:
        tried: tuple[dict[str, Any], ...] = ({"json": {"models": {}}}, {"params": {"path": "/etc/passwd"}})
        for more in tried:
            async with on.http.post(on.running.admin_url + "/admin/reload", **more) as reply:
                assert reply.status == 400
        async with on.http.get(on.running.admin_url + "/admin/reload") as reply:
            assert reply.status == 405
        assert on.number == 1


# --- one after the other ----------------------------------------------------------------------------------------------


async def test_reloads_come_one_after_the_other(tmp_path: Path) -> None:
    async with site(config_of(tmp_path), tmp_path) as on:
        done = await asyncio.gather(*(on.reload() for _ in range(6)))
        assert sorted(each["generation"] for each in done) == [2, 3, 4, 5, 6, 7]
        assert on.number == 7
        await until(lambda: [each.events for each in on.lives()[:-1]] == [["start", "stop"]] * 6)


async def test_a_reload_whose_asker_leaves_is_done_all_the_same(tmp_path: Path) -> None:
    async with site(config_of(tmp_path), tmp_path) as on:
        asking = asyncio.create_task(on.running.gateway.reload("test"))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await until(lambda: on.number == 2)
        assert (await on.ask())[0] == 200


async def test_a_stop_undoes_a_reload_that_is_under_way(tmp_path: Path) -> None:
    async with site(config_of(tmp_path), tmp_path) as on:
        on.write(pipelines={"main": {"plugins": [mortal(on.mark), mortal(on.mark, fails="hang")]}})
        asking = asyncio.create_task(on.running.gateway.reload("test"))
        waiting = asyncio.create_task(on.running.gateway.reload("test"))
        await until(lambda: len(on.lives()) == 3 and on.lives()[2].events)
        await on.running.gateway.stop()
        for each in (asking, waiting):
            with pytest.raises(Refusal) as caught:
                await each
            assert caught.value.code == "gateway_stopping"
        assert [each.events for each in on.lives()] == [["start", "stop"], ["start", "stop"], ["start"]]
        with pytest.raises(Refusal):
            await on.running.gateway.reload("test")


async def test_a_drain_refuses_reloads(tmp_path: Path) -> None:
    provider = Told()
    async with scripted(provider) as upstream, site(config_of(tmp_path, upstream.url), tmp_path) as on:
        asking = asyncio.create_task(on.ask(stream=True))
        await until(lambda: provider.streams)
        await on.reload()
        stopping = asyncio.create_task(on.running.gateway.stop())
        await until(lambda: on.running.service.live.draining)
        assert (await on.reload(503))["code"] == "gateway_stopping"
        provider.finish("hi")
        assert (await asking)[0] == 200
        await stopping
        assert [(each.events, each.at_stop) for each in on.lives()] == [(["start", "stop"], 0)] * 2


async def test_a_call_that_is_cancelled_while_a_reload_goes_on_ends_as_ever(tmp_path: Path) -> None:
    provider = Told()
    async with scripted(provider) as upstream, site(config_of(tmp_path, upstream.url), tmp_path) as on:
        asking = asyncio.create_task(on.ask(stream=True))
        await until(lambda: provider.streams)
        reloading = asyncio.create_task(on.reload())
        asking.cancel()
        await reloading
        await until(lambda: on.lives()[0].events == ["start", "stop"])
        assert on.lives()[0].at_stop == 0
        await on.running.service.ledger.flush()
        assert [line["generation"] for line in on.running.log.events("generation_stopped")] == [1]
