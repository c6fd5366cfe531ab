"""What the ledger costs a call: processor time of the gateway's process, and how many calls a second it records.

    python -m bench.ledger --ledger sqlite:////tmp/ledger.db
    python -m bench.ledger --ledger postgresql://postgres@127.0.0.1/empty

Calls open one attempt and are settled, 50 at a time: as they come without a budget, and each with a reservation of one
shared budget, which is durable before the call goes on. Making the calls is told by itself, and is not in the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from itertools import count

from sidegate.contract import Attempt, Claim, Ending, Reply, SystemClock, Usage
from sidegate.contract.call import Call
from sidegate.ledger.migrate import migrate
from sidegate.ledger.settlement import settle
from sidegate.ledger.store import Ledger, NullLedger, open_ledger
from tests.plugins.calls import HandClock, a_call

RACING = 50
BUDGET = Claim("all", "[]", "2026-11-22", "2026-11-22", 1_000, 10**18)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

Record = Callable[[Ledger, Call], Awaitable[None]]


def made(number: int) -> Call:
    """A call that has opened an attempt and got its answer."""
    call = a_call(HandClock())
    call.id = f"{number:032x}"
    attempt = Attempt(number=1, provider="openai", target="openai/gpt-4o", started=1000.0, started_at=NOW, sent=True)
    attempt.usage, attempt.finish, attempt.ending = Usage(1_000, 100), "stop", Ending.COMPLETE
    call.attempts.append(attempt)
    call.notes.price = lambda _: 700
    return call


async def plain(ledger: Ledger, call: Call) -> None:
    ledger.opened(call)
    await asyncio.sleep(0)
    ledger.settle(*settle(call, Reply(), 1.0))


async def budgeted(ledger: Ledger, call: Call) -> None:
    await ledger.reserve(call, [BUDGET])
    ledger.settle(*settle(call, Reply(), 1.0))


async def nothing(ledger: Ledger, call: Call) -> None:
    """What is not the store's: the call, and its rows."""
    await asyncio.sleep(0)
    settle(call, Reply(), 1.0)


async def measure(ledger: Ledger, record: Record, calls: int) -> tuple[float, float]:
    """Microseconds of the processor a call, and calls a second."""
    numbers = count(time.time_ns())

    async def one_after_the_other() -> None:
        for _ in range(calls // RACING):
            await record(ledger, made(next(numbers)))
            if ledger.waiting > 2_000:
                await ledger.flush()

    cpu, start = time.process_time(), time.perf_counter()
    await asyncio.gather(*(one_after_the_other() for _ in range(RACING)))
    await ledger.flush()
    return (time.process_time() - cpu) / calls * 1e6, calls / (time.perf_counter() - start)


async def run(url: str, calls: int) -> None:
    ledger = open_ledger(url, SystemClock(), 0.2)
    await ledger.start()
    base, _ = await measure(NullLedger(SystemClock()), nothing, calls)
    print(f"the calls themselves      {base:>6.0f} us of CPU each")
    for name, record in (("without a budget", plain), ("under a budget", budgeted)):
        cpu, rate = await measure(ledger, record, calls)
        print(f"{name:<24}  {cpu - base:>6.0f} us of CPU more each, {rate:>7,.0f} calls a second", flush=True)
    await ledger.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="What the ledger costs a call.")
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--ledger", required=True, metavar="URL")
    options = parser.parse_args()
    migrate(options.ledger)
    asyncio.run(run(options.ledger, options.calls))


if __name__ == "__main__":
    main()
