"""What limits do while their store does not do what it should: each kind of failure, and each policy."""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidegate.contract import RateClaim, SlotClaim
from sidegate.counters.shared_slots import SharedSlots
from sidegate.errors import ConfigError, Refusal
from sidegate.shared import store
from sidegate.shared.address import check_url, connect, shown
from tests.counted import LONG, Guest, Replica, replica, until
from tests.servers.process import spare_port
from tests.servers.proxy import FaultProxy
from tests.servers.redis import redis_server

Policy = Literal["allow", "deny", "local"]
Proxied = Callable[[str], Awaitable[FaultProxy]]


@pytest.fixture
def own_server() -> Iterator[str]:
    """A server that this test may set up as it likes."""
    try:
        with redis_server("redis-server") as url:
            yield url
    except FileNotFoundError as error:
        pytest.skip(str(error))


def told(url: str, *command: str | bytes) -> Any:
    with redis.Redis.from_url(url, socket_timeout=5) as client:
        return client.execute_command(*command)


async def black_hole(proxy: FaultProxy) -> None:
    proxy.black_hole()


async def slow(proxy: FaultProxy) -> None:
    proxy.delay(down=0.3)


BREAKS: dict[str, Callable[[FaultProxy], Awaitable[None]]] = {
    "black hole": black_hole,
    "slow": slow,
    "refused": FaultProxy.refuse,
}


@pytest.fixture(params=BREAKS)
def breaks(request: pytest.FixtureRequest) -> Callable[[FaultProxy], Awaitable[None]]:
    return BREAKS[request.param]


async def counted(gate: Replica, policy: Policy, times: int, limit: int = 3) -> list[bool]:
    """Which of so many takes of 1 were allowed."""
    return [(await gate.take("a", limit, on_store_failure=policy)).allowed for _ in range(times)]


async def test_a_limit_counts_for_itself_while_the_store_is_away_and_what_it_let_through_before_counts(
    redis_url: str, fault_proxy: Proxied, breaks: Callable[[FaultProxy], Awaitable[None]]
) -> None:
    proxy = await fault_proxy(redis_url)
    async with replica(proxy.url, timeout=0.1) as gate:
        assert await counted(gate, "local", 1) == [True]
        await breaks(proxy)
        assert await counted(gate, "local", 4) == [True, True, False, False]
        await proxy.heal()
        await gate.is_up()
        assert await counted(gate, "local", 1) == [False]
        await gate.tells("a", 3, 0)


async def test_a_limit_that_allows_lets_all_through_and_the_store_hears_of_it(
    redis_url: str, fault_proxy: Proxied, breaks: Callable[[FaultProxy], Awaitable[None]]
) -> None:
    proxy = await fault_proxy(redis_url)
    async with replica(proxy.url, timeout=0.1) as gate:
        await breaks(proxy)
        assert await counted(gate, "allow", 5) == [True] * 5
        await proxy.heal()
        await gate.is_up()
        await gate.tells("a", 3, 0)
        assert await counted(gate, "allow", 1) == [False]


async def test_a_limit_that_denies_refuses_all(
    redis_url: str, fault_proxy: Proxied, breaks: Callable[[FaultProxy], Awaitable[None]]
) -> None:
    proxy = await fault_proxy(redis_url)
    async with replica(proxy.url, timeout=0.1) as gate:
        await breaks(proxy)
        for _ in range(3):
            with pytest.raises(Refusal) as refused:
                await gate.rates.take([RateClaim("b", 9, LONG), RateClaim("a", 3, LONG, 1, "deny")])
            assert (refused.value.status, refused.value.code) == (503, "limit_store_unavailable")
            assert refused.value.retry_after
            with pytest.raises(Refusal) as refused:
                await Guest(gate, SlotClaim("a", 3, on_store_failure="deny")).in_()
            assert refused.value.code == "limit_store_unavailable"
        await proxy.heal()
        await gate.is_up()
        assert await counted(gate, "deny", 1) == [True]
        await gate.tells("b", 9, 9)


async def test_what_was_run_and_answered_too_late_is_undone(redis_url: str, fault_proxy: Proxied) -> None:
    proxy = await fault_proxy(redis_url)
    async with replica(proxy.url, timeout=0.2) as gate, replica(redis_url) as other:
        await gate.take("the script is known", 1)
        proxy.delay(down=5)
        task = asyncio.create_task(gate.take("a", 3, 2))
        await other.tells("a", 3, 1)
        task.cancel()
        await asyncio.wait([task])
        proxy.delay()
    # Whoever is cancelled and whose connection breaks has taken what it took.
    async with replica(redis_url) as gate, replica(redis_url) as other:
        task = asyncio.create_task(gate.take("b", 3, 2))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await other.tells("b", 3, 3)


async def test_an_outage_costs_one_call_the_time_and_is_told_once(redis_url: str, fault_proxy: Proxied) -> None:
    proxy = await fault_proxy(redis_url)
    async with replica(proxy.url, timeout=0.1) as gate:
        for _ in range(2):
            # Behind what the store is told when it comes back.
            await gate.take("sync", 3)
            trips, events, failures = gate.seen.trips, len(gate.seen.events), len(gate.seen.failures)
            proxy.black_hole()
            began = asyncio.get_running_loop().time()
            await asyncio.gather(*(gate.take(f"{number}", 3) for number in range(50)))
            await gate.is_up(False)
            for number in range(50):
                await gate.take(f"{number}", 3)
            assert asyncio.get_running_loop().time() - began < 5
            assert gate.seen.trips == trips
            assert gate.seen.events[events:] == ["counter_store_down"]
            assert sorted(set(gate.seen.failures[failures:])) == ["connection", "rates"]
            assert gate.seen.failures[failures:].count("rates") == 100
            await proxy.heal()
            await gate.is_up()
            assert gate.seen.events[events:] == ["counter_store_down", "counter_store_back"]


@asynccontextmanager
async def broken_server(url: str, *commands: tuple[str, ...]) -> AsyncIterator[None]:
    """The server says well what it is asked for after these, and the last undoes them."""
    *breaking, healing = commands
    for command in breaking:
        told(url, *command)
    try:
        yield
    finally:
        told(url, *healing)


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param((("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")), id="readonly"),
        pytest.param((("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")), id="no memory"),
        pytest.param(
            (("ACL", "SETUSER", "default", "-evalsha", "-eval"), ("ACL", "SETUSER", "default", "+@all")),
            id="no permission",
        ),
    ],
)
async def test_a_server_that_takes_no_writes_is_a_store_that_is_away(
    own_server: str, commands: tuple[tuple[str, ...], ...]
) -> None:
    async with replica(own_server, timeout=1) as gate:
        assert await counted(gate, "local", 1) == [True]
        async with broken_server(own_server, *commands):
            assert await counted(gate, "local", 3) == [True, True, False]
            await gate.is_up(False)
            with pytest.raises(Refusal):
                await counted(gate, "deny", 1)
        await gate.is_up()
        assert gate.seen.events == ["counter_store_down", "counter_store_back"]


async def test_a_server_that_takes_probes_and_no_scripts_gets_rests_that_grow(own_server: str) -> None:
    told(own_server, "ACL", "SETUSER", "default", "-get")
    async with replica(own_server) as gate:
        assert await counted(gate, "local", 4) == [True, True, True, False]
        async with asyncio.timeout(20):
            while len(gate.seen.events) < 5 or len(gate.seen.events) % 2 == 0:
                await gate.take("b", 10**6)
                await asyncio.sleep(0.01)
        # Down at first, then back and down again, each time after twice the rest.
        assert set(gate.seen.events) == {"counter_store_down", "counter_store_back"}
        told(own_server, "ACL", "SETUSER", "default", "+get")
        await gate.is_up()
        assert (await gate.take("c", 3, on_store_failure="deny")).allowed


async def test_a_wrong_password_is_said_without_it(own_server: str) -> None:
    told(own_server, "CONFIG", "SET", "requirepass", "right-password")
    for wrong in ("", ":wrong-password@"):
        async with replica(own_server.replace("//", f"//{wrong}")) as gate:
            assert gate.trouble is not None
            assert await counted(gate, "local", 4) == [True, True, True, False]
            assert gate.seen.events == ["counter_store_down"]
            assert "password" not in f"{gate.seen.lines}{gate.trouble}"
    async with replica(own_server.replace("//", "//:right-password@")) as gate:
        assert gate.trouble is None
        assert await counted(gate, "deny", 1) == [True]


async def test_a_store_that_is_not_there_at_start_is_used_when_it_comes() -> None:
    port = spare_port()
    async with replica(f"redis://127.0.0.1:{port}/0") as gate:
        assert gate.trouble == f"the store of limits (redis://127.0.0.1:{port}/0) is not available"
        assert await counted(gate, "local", 4) == [True, True, True, False]
        with redis_server("redis-server", port):
            await gate.is_up()
            assert gate.trouble is None
            assert (await gate.take("new", 3, on_store_failure="deny")).allowed
            await gate.tells("a", 3, 0)
        assert (await gate.take("new", 3, on_store_failure="local")).remaining == 1
        # Another server on the same port: no data, no scripts.
        with redis_server("redis-server", port):
            await gate.is_up()
            assert (await gate.take("newer", 3, on_store_failure="deny")).allowed


async def test_a_store_that_forgot_its_scripts_is_told_again(redis_url: str) -> None:
    async with replica(redis_url) as gate:
        assert await counted(gate, "deny", 1) == [True]
        told(redis_url, "SCRIPT", "FLUSH")
        assert await counted(gate, "deny", 3) == [True, True, False]
        assert gate.seen.events == []


async def test_a_key_that_somebody_else_wrote_breaks_no_other_limit(redis_url: str) -> None:
    async with replica(redis_url) as gate:
        (key,) = [key async for key in _keys(gate, redis_url)]
        told(redis_url, "DEL", key)
        told(redis_url, "HSET", key, "a", "b")
        assert await counted(gate, "local", 4) == [True, True, False, False]
        assert (await gate.take("other", 3, on_store_failure="deny")).allowed
        assert gate.seen.events == []


async def _keys(gate: Replica, url: str) -> AsyncIterator[str]:
    """What a take leaves in the store."""
    await counted(gate, "local", 1)
    for key in told(url, "KEYS", "*:r:*"):
        yield key.decode()


async def test_keys_expire_and_share_one_hash_tag(redis_url: str) -> None:
    async with replica(redis_url) as gate:
        await gate.take("a", 10, 5, period=60.0)
        guest = await Guest(gate, SlotClaim("a", 1)).in_()
        keys = [key for key in told(redis_url, "KEYS", "*") if not key.endswith((b"tickets", b"probe"))]
        assert len(keys) == 2
        assert all(key.startswith(b"test:{counters}:") for key in keys)
        assert all(0 < told(redis_url, "PTTL", key.decode()) <= 60_000 for key in keys)
        await guest.out()


# --- slots ------------------------------------------------------------------------------------------------------------


async def test_slots_are_counted_here_while_the_store_is_away_with_those_held_before(
    redis_url: str, fault_proxy: Proxied
) -> None:
    proxy = await fault_proxy(redis_url)
    slot = SlotClaim("a", 2, queue=1, wait=20)
    async with replica(proxy.url, timeout=0.1) as gate, replica(redis_url) as other:
        before = await Guest(gate, slot).in_()
        proxy.black_hole()
        during = await Guest(gate, slot).in_()
        with pytest.raises(Refusal):
            await Guest(gate, SlotClaim("a", 2)).in_()
        allowed = await Guest(gate, SlotClaim("a", 2, on_store_failure="allow")).in_()
        await proxy.heal()
        await gate.is_up()
        # The store has heard of those who came in meanwhile.
        await until(lambda: _refuses(other, SlotClaim("a", 3)))
        await asyncio.gather(before.out(), during.out(), allowed.out())
        await (await Guest(other, slot).in_()).out()


async def _refuses(gate: Replica, slot: SlotClaim) -> bool:
    try:
        await (await Guest(gate, slot).in_()).out()
    except Refusal:
        return True
    return False


async def test_a_store_that_forgot_who_holds_hears_it_again(redis_url: str) -> None:
    slot = SlotClaim("a", 1)
    async with replica(redis_url, lease=1) as gate, replica(redis_url) as other:
        guest = await Guest(gate, slot).in_()
        told(redis_url, "FLUSHALL")
        await until(lambda: _refuses(other, slot))
        await guest.out()


async def test_a_lease_is_renewed_as_long_as_the_call_runs(redis_url: str) -> None:
    slot = SlotClaim("a", 1)
    async with replica(redis_url, lease=1) as gate, replica(redis_url) as other:
        guest = await Guest(gate, slot).in_()
        for _ in range(15):
            await asyncio.sleep(0.1)
            assert await _refuses(other, slot)
        await guest.out()


HOLDS = """
import asyncio, sys
from sidegate.contract import SlotClaim
from tests.counted import Guest, replica

async def main():
    async with replica(sys.argv[1], lease=1) as gate:
        await Guest(gate, SlotClaim("a", 1)).in_()
        waits = Guest(gate, SlotClaim("b", 1, 9, 60), SlotClaim("a", 2, 9, 60))
        print("holds", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_the_slots_of_a_gateway_that_was_killed_come_free_when_their_lease_ends(redis_url: str) -> None:
    slot = SlotClaim("a", 1, queue=9, wait=20)
    command = [sys.executable, "-c", HOLDS, redis_url]
    held = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=_environment())
    assert held.stdout is not None
    try:
        assert await held.stdout.readline() == b"holds\n"
        async with replica(redis_url) as gate:
            assert await _refuses(gate, SlotClaim("a", 1))
            held.kill()
            await (await Guest(gate, slot).in_()).out()
    finally:
        if held.returncode is None:
            held.kill()
        await held.wait()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


async def test_who_is_called_in_the_moment_before_it_waits_hears_it(redis_url: str) -> None:
    async with replica(redis_url) as gate:
        assert isinstance(gate.slots, SharedSlots)
        wakes = gate.slots.wakes
        for number in range(2000):
            wakes.wake(f"never-{number}")
        wakes.wake("id")
        assert len(wakes._missed) == 1000
        with wakes.listening("id") as woken:
            async with asyncio.timeout(20):
                await woken(1000)


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["redis://h", "rediss://:p@h:1/2", "valkey://h", "valkeys://u:p@h", "unix:///run/r.sock"]
)
async def test_urls_of_both_servers_are_taken(url: str) -> None:
    check_url(url)
    assert "p@" not in shown(url)
    await connect(url).aclose()


@pytest.mark.parametrize("url", ["http://h", "redis://", "unix://", "redis://h:port", "nothing", "redis://[::1"])
def test_what_is_no_url_of_a_store_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="must|names|needs|not a"):
        check_url(url)


@pytest.mark.parametrize("option", ["socket_timeout=soon", "colour=red", "ssl_cert_reqs=perhaps"])
async def test_an_option_the_driver_does_not_know_is_said_without_the_url(option: str) -> None:
    scheme = "rediss" if option.startswith("ssl") else "redis"
    with pytest.raises(ConfigError) as refused:
        await connect(f"{scheme}://:secret@h/0?{option}").aclose()
    assert "secret" not in str(refused.value)


async def test_without_the_driver_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(ConfigError, match=r"counters.url: needs `pip install 'sidegate\[redis\]'`"):
        await Replica("redis://h").start()


async def test_the_task_that_keeps_the_connection_can_be_cancelled_at_any_moment(redis_url: str) -> None:
    """redis-py with a timeout of its own loses a cancellation that comes while it sends."""
    for turns in range(120):
        gate = Replica(redis_url)
        starting = asyncio.create_task(gate.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        task = gate.store._task if gate.store is not None else None
        if task is not None:
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=10)
            assert done, f"after {turns} turns"
        starting.cancel()
        await asyncio.wait([starting])


# --- time -------------------------------------------------------------------------------------------------------------


async def test_a_connection_that_was_closed_while_nobody_asked_costs_no_call_anything(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "IDLE_SECONDS", 0.05)
    async with replica(redis_url) as gate:
        for _ in range(2):
            told(redis_url, "CLIENT", "KILL", "TYPE", "normal")
            await until(lambda: _again(gate))
            gate.seen.lines.clear()
            assert (await gate.take("a", 9, on_store_failure="deny")).allowed


async def _again(gate: Replica) -> bool:
    return gate.seen.events == ["counter_store_down", "counter_store_back"]


@pytest.mark.parametrize(("ahead", "left"), [(3600, 5), (-LONG / 10, 6)])
async def test_the_stores_clock_set_back_drains_nothing_and_holds_up_nobody(
    redis_url: str, ahead: float, left: int
) -> None:
    async with replica(redis_url) as gate:
        await gate.take("a", 10, 5)
        (key,) = told(redis_url, "KEYS", "*:r:*")
        seconds, micros = told(redis_url, "TIME")
        was = struct.pack(">dd", 5, (seconds + ahead) * 1e6 + micros)
        told(redis_url, "SET", key, was)
        assert await gate.left("a", 10) == left
        await gate.take("a", 10, 1)
        level, looked = struct.unpack(">dd", told(redis_url, "GET", key))
        assert level == pytest.approx(11 - left, abs=0.01)
        assert abs(looked / 1e6 - seconds) < 60


async def test_a_level_is_exact_after_many_steps(redis_url: str) -> None:
    limit = 10**12
    async with replica(redis_url, timeout=10) as gate:
        claims = [[RateClaim("a", limit, 1e9, 7 + number)] for number in range(5000)]
        await asyncio.gather(*(gate.rates.take(each) for each in claims))
        (key,) = told(redis_url, "KEYS", "*:r:*")
        began = struct.unpack(">dd", told(redis_url, "GET", key))
        total = sum(each[0].amount for each in claims)
        # A thousand drain in each second.
        assert total - 60_000 < began[0] <= total


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    limit=st.integers(1, 50),
    steps=st.lists(
        st.tuples(st.sampled_from(["take", "correct"]), st.integers(0, 60), st.integers(0, 90)), max_size=40
    ),
)
def test_whatever_is_taken_and_settled_no_grant_goes_over_the_limit(
    redis_url: str, limit: int, steps: list[tuple[str, int, int]]
) -> None:
    asyncio.run(_walk(redis_url, limit, steps))


async def _walk(url: str, limit: int, steps: list[tuple[str, int, int]]) -> None:
    told(url, "FLUSHALL")
    claims: list[RateClaim] = []
    level = 0
    async with replica(url) as one, replica(url) as other:
        for number, (what, amount, used) in enumerate(steps):
            gate = (one, other)[number % 2]
            if what == "take":
                asked = RateClaim("k", limit, 1e9, amount)
                (grant,) = await gate.rates.take([asked])
                assert grant.allowed == (level + amount <= limit)
                level += amount if grant.allowed else 0
                assert grant.remaining == max(0, limit - level)
                claims += [asked] if grant.allowed else []
            elif claims:
                asked = claims.pop(amount % len(claims))
                gate.rates.correct(asked, used)
                level = max(0, level + used - asked.amount)
                (grant,) = await gate.rates.take([RateClaim("unrelated", limit, 1e9, 0)])
                # Corrections go along with the next round trip, after what was asked before.
                (grant,) = await gate.rates.take([RateClaim("k", limit, 1e9, 0)])
                assert grant.remaining == max(0, limit - level)
