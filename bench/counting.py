"""`scripts/bench --count` and `--compare`: the counts now, beside those that are kept."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from bench import callgrind, kept
from bench.callgrind import Callgrind
from bench.counts import SCENARIOS, Counts, Scenario, count, in_batches, ratios
from bench.cputime import CpuTime
from bench.kept import ROUGH, TOLERANCE, Kept, Verdict
from bench.servers import RELAY, Server, gateway, relay


def servers() -> list[Server]:
    return [relay(), gateway(in_batches)]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Instruction counts of a fixed script of calls.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--count", action="store_true", help="count, and show the change to what is kept")
    what.add_argument("--compare", action="store_true", help=f"and end with 1 where one is worse by {TOLERANCE:.0%}")
    what.add_argument("--keep", action="store_true", help="count, and keep it in bench/counts.json")
    names = [scenario.key for scenario in SCENARIOS]
    parser.add_argument("--scenario", action="append", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--server", action="append", choices=[server.name for server in servers()], metavar="NAME")
    parser.add_argument("--cpu", action="store_true", help="CPU time, as it is done where there is no valgrind")
    options = parser.parse_args(arguments)
    if options.keep and (options.scenario or options.server or options.cpu):
        parser.error("what is kept is kept whole")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    lacking = callgrind.missing()
    if lacking and not options.cpu:
        print(f"{lacking} is not installed: CPU time instead, as a ratio to the relay's, and rough", file=sys.stderr)
    if options.keep:
        return _keep(lacking)
    chosen = [scenario for scenario in SCENARIOS if not options.scenario or scenario.key in options.scenario]
    used = [server for server in servers() if not options.server or server.name in options.server]
    judged = _by_time if options.cpu or lacking else _by_instructions
    verdict = judged(chosen, used)
    return verdict.code if options.compare else 0


def _keep(lacking: str | None) -> int:
    if lacking:
        return 2
    counts = counted_all(SCENARIOS, servers(), Callgrind)
    times = counted_all(SCENARIOS, servers(), CpuTime)
    then = kept.read()
    print(kept.render(counts, then.counts if then else {}, SCENARIOS, "instructions"))
    kept.write(Kept(kept.versions(), kept.rounded(counts, 0), kept.rounded(ratios(times, RELAY), 2)))
    return 0


def counted_all(
    scenarios: Sequence[Scenario], used: Sequence[Server], meter: type[Callgrind | CpuTime]
) -> dict[str, Counts]:
    return {server.name: asyncio.run(count(server, scenarios, meter)) for server in used}


def _by_instructions(scenarios: Sequence[Scenario], used: Sequence[Server]) -> Verdict:
    then = kept.read()
    counts = counted_all(scenarios, used, Callgrind)
    print(kept.render(counts, then.counts if then else {}, scenarios, "instructions"))
    if then is None:
        return _told(Verdict.UNKNOWN, "nothing is kept yet: scripts/bench --keep")
    differing = kept.differing(then.versions, kept.versions())
    if differing:
        return _told(Verdict.UNKNOWN, "\n  ".join(["not to be compared, other versions:", *differing]))
    return _told(kept.judge(kept.changes(then.counts, counts), TOLERANCE), f"tolerance {TOLERANCE:.0%}")


def _by_time(scenarios: Sequence[Scenario], used: Sequence[Server]) -> Verdict:
    then = kept.read()
    times = counted_all(scenarios, used, CpuTime)
    print(kept.render(times, {}, scenarios, "ns of CPU"))
    if then is None or RELAY not in times:
        return _told(Verdict.UNKNOWN, "nothing to compare with")
    found = kept.changes(then.cpu_ratios, ratios(times, RELAY))
    for change in found:
        print(f"{change.server} {change.scenario}: {change.now:.2f}x the relay's, was {change.then or 0:.2f}x")
    return _told(kept.judge(found, ROUGH), f"tolerance {ROUGH:.0%} of a ratio")


def _told(verdict: Verdict, why: str) -> Verdict:
    print(f"{verdict.value} ({why})")
    return verdict
