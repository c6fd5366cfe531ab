"""Prices: exactly what genai-prices itself says, without the library in the process that serves."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import genai_prices
import msgspec
import pytest
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as some

from sidegate.cli import main
from sidegate.contract import Attempt, Model, Rates, Usage
from sidegate.prices import library
from sidegate.prices.book import MOST_NAMES, PriceBook
from sidegate.prices.integers import rates
from sidegate.prices.table import MAX_NAME, Price, read
from sidegate.testing import KeptEvents, demo_config, gateway, host
from sidegate_plugins.cost import Cost, Settings
from sidegate_plugins.cost import Price as OwnPrice
from tests.installed import clean_environ, served
from tests.plugins.calls import EPOCH, HandClock

URLS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "azure": "https://mine.openai.azure.com/openai/v1",
    "groq": "https://api.groq.com/openai/v1",
    "deepseek": "https://api.deepseek.com",
    "google": "https://generativelanguage.googleapis.com/v1beta/openai",
    "perplexity": "https://api.perplexity.ai",
}
OWN = "http://127.0.0.1:8000/v1"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SOURCE = f"genai-prices {genai_prices.__version__}"

SAMPLE = [
    ("openai", "gpt-4o"),
    ("openai", "gpt-5-mini"),
    ("openai", "o3"),
    ("openai", "gpt-4o-audio-preview"),
    ("openai", "text-embedding-3-small"),
    ("anthropic", "claude-sonnet-4-5"),  # tiers
    ("anthropic", "claude-haiku-4-5-20251001"),
    ("azure", "gpt-4.1"),  # another provider's model
    ("groq", "llama-3.3-70b-versatile"),
    ("deepseek", "deepseek-chat"),  # hours of the day
    ("google", "gemini-2.5-pro"),  # tiers
    ("perplexity", "sonar-pro"),  # each request
]


class Told:
    """What was said on the terminal and in the log."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.log = KeptEvents()


def a_book(state: Path, urls: Mapping[str, str] = URLS, told: Told | None = None) -> PriceBook:
    told = told or Told()
    return PriceBook(urls, state, HandClock(), told.log, told.lines.append)


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder in which the lists are kept."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture
async def book(state: Path) -> PriceBook:
    made = a_book(state)
    await made.load()
    return made


def kept(state: Path) -> list[str]:
    """The files of the state folder that hold price lists."""
    return [path.name for path in (state / "prices").glob("*")]


def the_dump(state: Path) -> bytes:
    return next((state / "prices").iterdir()).read_bytes()


def theirs(provider: str, model: str, usage: Usage, at: datetime = NOW) -> int | None:
    """The library's own answer in nano-USD, rounded once."""
    counted = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_reasoning_tokens": usage.reasoning_tokens,
        "input_audio_tokens": usage.audio_input_tokens,
        "output_audio_tokens": usage.audio_output_tokens,
    }
    url = URLS[provider]
    asked = genai_prices.Usage(**counted)
    try:
        found = genai_prices.calc_price(asked, model, provider_api_url=url, genai_request_timestamp=at)
    except LookupError:
        return None
    return int((found.total_price * 10**9).quantize(Decimal(1), ROUND_HALF_UP))


# --- arithmetic -------------------------------------------------------------------------------------------------------

tokens = some.integers(0, 1_000_000)


@cache
def sampled(state: Path, provider: str, model: str) -> Rates:
    """The rates of one of the sample; made once, for a property is tried a hundred times."""
    lists = read(the_dump(state), genai_prices.__version__, URLS)
    listed = lists[provider].find(model)
    assert listed is not None
    price = listed.price(NOW)
    assert price is not None
    found = rates(price, SOURCE)
    assert found is not None
    return found


@pytest.mark.usefixtures("book")
@pytest.mark.parametrize(("provider", "model"), SAMPLE)
@given(parts=some.tuples(tokens, tokens, tokens), output=tokens, share=some.floats(0, 1))
def test_the_cost_is_the_librarys_to_the_nano(
    state: Path, provider: str, model: str, parts: tuple[int, int, int], output: int, share: float
) -> None:
    usage = Usage(sum(parts), output, parts[0], parts[1], int(output * share))
    assert sampled(state, provider, model).cost(usage) == theirs(provider, model, usage)


@pytest.mark.usefixtures("book")
@given(text=tokens, audio=tokens, said=tokens, spoken=tokens)
def test_audio_has_its_own_price(state: Path, text: int, audio: int, said: int, spoken: int) -> None:
    found = sampled(state, "openai", "gpt-4o-audio-preview")
    usage = Usage(text + audio, said + spoken, audio_input_tokens=audio, audio_output_tokens=spoken)
    assert found.cost(usage) == theirs("openai", "gpt-4o-audio-preview", usage)


async def test_every_model_of_every_provider_costs_what_the_library_says(book: PriceBook) -> None:
    """By their ids and with a compact date behind, at both sides of every threshold there is."""
    usages = [Usage(1000, 500), Usage(200_000, 7, 10), Usage(200_001, 7, 100_000, 5000), Usage(900_000, 9, 1, 2, 3)]
    compared = 0
    for name, url in URLS.items():
        for listed in get_snapshot().find_provider(None, None, url).models:
            for model in (listed.id, f"{listed.id}-20251211"):
                found = book.find(name, model, NOW)
                if found is None:
                    # Not in the list, or without a price of its input, for which the library says 0.
                    assert all(theirs(name, model, usage) in (None, 0) for usage in usages)
                    continue
                assert [found.cost(usage) for usage in usages] == [theirs(name, model, usage) for usage in usages]
                compared += 1
    assert compared > 300


@pytest.mark.parametrize("hour", [0, 1, 3, 5, 8, 11, 17, 23])
@pytest.mark.parametrize("day", [datetime(2024, 6, 1, tzinfo=UTC), datetime(2026, 8, 16, tzinfo=UTC), NOW])
async def test_the_price_is_that_of_the_day_and_the_hour(book: PriceBook, day: datetime, hour: int) -> None:
    at = day.replace(hour=hour, minute=30)
    usage = Usage(1000, 500, 100)
    for model in ("deepseek-chat", "deepseek-v4-flash", "deepseek-v4-pro", "deepseek-reasoner"):
        found = book.find("deepseek", model, at)
        assert found is not None
        assert found.cost(usage) == theirs("deepseek", model, usage, at)
    for listed in get_snapshot().find_provider(None, "openai", None).models:
        if (found := book.find("openai", listed.id, at)) is not None:
            assert found.cost(usage) == theirs("openai", listed.id, usage, at)


async def test_a_time_of_another_zone_is_the_same_time(book: PriceBook) -> None:
    at = datetime(2026, 11, 22, 0, 15, tzinfo=UTC)
    there = at.astimezone(timezone(timedelta(hours=9)))
    assert book.find("deepseek", "deepseek-chat", at) == book.find("deepseek", "deepseek-chat", there)


async def test_without_a_time_it_is_now(state: Path) -> None:
    clock = HandClock()
    book = PriceBook(URLS, state, clock, KeptEvents(), print)
    await book.load()
    midday = book.find("deepseek", "deepseek-chat")
    assert midday == book.find("deepseek", "deepseek-chat", EPOCH)
    clock.pass_by(6 * 3600)
    assert book.find("deepseek", "deepseek-chat") == book.find("deepseek", "deepseek-chat", EPOCH.replace(hour=18))
    assert book.find("deepseek", "deepseek-chat") != midday


async def test_the_tier_that_was_applied_is_told(book: PriceBook) -> None:
    found = book.find("anthropic", "claude-sonnet-4-5", NOW)
    assert found is not None
    assert (found.input, [tier.above for tier in found.tiers]) == (3_000_000_000, [200_000])
    below, above = found.applied(Usage(200_000, 1)), found.applied(Usage(200_001, 1))
    assert (below.above, below.input, below.tiers) == (0, 3_000_000_000, ())
    assert (above.above, above.input, above.cache_read) == (200_000, 6_000_000_000, 600_000_000)


def test_tiers_of_single_kinds_are_put_together() -> None:
    kinds = {
        "input": ((-1, Decimal(1)), (100, Decimal(2))),
        "output": ((-1, Decimal(10)), (50, Decimal(20)), (200, Decimal(30))),
        "cache_read": ((-1, Decimal("0.5")),),
    }
    found = rates(Price(kinds=kinds), "")
    assert found is not None
    said = [(tier.above, tier.input // 10**9, tier.output // 10**9, tier.cache_write) for tier in found.tiers]
    assert said == [(50, 1, 20, 10**9), (100, 2, 20, 2 * 10**9), (200, 2, 30, 2 * 10**9)]
    assert {tier.cache_read for tier in found.tiers} == {500_000_000}


@pytest.mark.parametrize("amount", ["-1", "NaN", "Infinity", "1e30"])
def test_a_price_that_cannot_be_true_is_none(amount: str) -> None:
    assert rates(Price(kinds={"input": ((-1, Decimal(amount)),)}), "") is None


async def test_a_model_without_a_price_of_its_input_is_not_free(book: PriceBook) -> None:
    """Paid by the hour, by the character, or listed without a word: the library says 0 for its tokens."""
    for provider, model in (("openai", "whisper-1"), ("openai", "tts-1"), ("google", "gemma-3")):
        assert theirs(provider, model, Usage(1000, 500)) == 0
        assert book.find(provider, model) is None


# --- which provider ---------------------------------------------------------------------------------------------------


async def test_the_address_says_whose_prices_count(state: Path) -> None:
    urls = {**URLS, "own": OWN, "demo": ""}
    book = a_book(state, urls)
    await book.load()
    assert {name for name in urls if book.knows(name)} == set(URLS)
    assert book.find("own", "gpt-4o") is None
    assert book.find("nobody", "gpt-4o") is None
    azure, openai = book.find("azure", "gpt-4o"), book.find("openai", "gpt-4o")
    assert azure == openai is not None
    assert book.find("azure", "claude-sonnet-4-5") is not None
    assert book.find("openai", "claude-sonnet-4-5") is None
    groq = book.find("groq", "llama-3.3-70b-versatile")
    assert groq is not None
    assert groq.cost(Usage(10**6, 0)) == theirs("groq", "llama-3.3-70b-versatile", Usage(10**6, 0))


async def test_unknown_is_none(book: PriceBook) -> None:
    for model in ("gpt-99-nonsense", "", "\ud800", "a" * 100_000, "gpt-4o\n", "%s" * 50):
        assert book.find("openai", model) is None


async def test_names_that_clients_make_up_do_not_pile_up(book: PriceBook) -> None:
    for number in range(MOST_NAMES + 10):
        book.find("groq", f"made-up-{number}")
    book.find("groq", "x" * (MAX_NAME + 1))
    assert len(book._listed) <= MOST_NAMES


# --- getting the lists ------------------------------------------------------------------------------------------------


async def test_nothing_is_found_before_it_is_loaded(state: Path) -> None:
    assert a_book(state).find("openai", "gpt-4o") is None


async def test_the_library_is_asked_once_and_its_answer_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = a_book(tmp_path)
    await first.load()
    assert kept(tmp_path) == [f"genai-prices-{genai_prices.__version__}.json"]

    async def never() -> bytes:
        raise AssertionError("the library was asked again")

    monkeypatch.setattr(library, "_dumped", never)
    again = a_book(tmp_path)
    await again.load()
    assert again.find("openai", "gpt-4o") == first.find("openai", "gpt-4o") is not None
    await again.load()
    assert again.source == SOURCE


async def test_a_config_without_listed_providers_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_SCRIPT", tmp_path / "no such script")
    told = Told()
    await a_book(tmp_path, {"demo": ""}, told).load()
    assert (told.lines, kept(tmp_path)) == ([], [])


def broken(data: bytes) -> dict[str, bytes]:
    dump = json.loads(data)
    deep = b"[" * 100_000
    first = dump["providers"][0]
    return {
        "empty": b"",
        "cut": data[: len(data) // 2],
        "not-json": b"\xff\xfe{}",
        "deep": deep,
        "a-list": b"[]",
        "another-version": json.dumps({**dump, "library": "0.0.1"}).encode(),
        "another-format": json.dumps({**dump, "format": 0}).encode(),
        "bad-url": json.dumps({**dump, "providers": [{**first, "url": "("}]}).encode(),
        "bad-models": json.dumps({**dump, "providers": [{**first, "url": ".", "models": [{"id": 1}]}]}).encode(),
        "deep-clause": data.replace(b'["equals"', b'["or","",[' * 2000 + b'["equals"', 1),
    }


@pytest.mark.parametrize("how", sorted(broken(b'{"providers":[{}]}')))
async def test_a_kept_file_that_is_broken_is_made_anew(tmp_path: Path, state: Path, book: PriceBook, how: str) -> None:
    whole = the_dump(state)
    path = tmp_path / "prices" / f"genai-prices-{genai_prices.__version__}.json"
    path.parent.mkdir()
    path.write_bytes(broken(whole)[how])
    told = Told()
    mended = a_book(tmp_path, told=told)
    await mended.load()
    assert mended.find("openai", "gpt-4o") == book.find("openai", "gpt-4o") is not None
    assert path.read_bytes() == whole
    assert told.lines == []


async def test_a_state_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    (tmp_path / "prices").write_text("a file where the folder should be")
    told = Told()
    book = a_book(tmp_path, told=told)
    await book.load()
    assert book.find("openai", "gpt-4o") is not None
    assert told.lines == []


async def test_without_the_library_a_line_says_so_and_own_prices_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    told = Told()
    book = a_book(tmp_path, told=told)
    await book.load()
    assert told.lines == ["no price lists: genai-prices is not installed; only prices of the config are known"]
    assert told.log.events == [("prices_unavailable", {"reason": "genai-prices is not installed"})]
    cost = Cost(Settings(prices={"gpt-4o": OwnPrice(input=1)}), host(prices=book))
    assert cost.find_rates("openai", "gpt-4o") is not None
    assert cost.find_rates("openai", "gpt-5") is None


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise SystemExit(1)", "genai-prices cannot be loaded"),
        ("print('{}')", f"genai-prices {genai_prices.__version__} cannot be read: not a dump of price lists"),
        ("import time; time.sleep(60)", "genai-prices did not answer"),
    ],
    ids=["fails", "nonsense", "hangs"],
)
async def test_a_library_that_fails_is_told_of_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    (tmp_path / "script.py").write_text(script)
    monkeypatch.setattr(library, "_SCRIPT", tmp_path / "script.py")
    if "sleep" in script:
        monkeypatch.setattr(library, "DUMP_SECONDS", 0.2)
    told = Told()
    book = a_book(tmp_path, told=told)
    async with asyncio.timeout(20):
        await book.load()
    assert told.lines == [f"no price lists: {reason}; only prices of the config are known"]
    assert book.find("openai", "gpt-4o") is None
    assert not (tmp_path / "prices").exists()


async def test_a_start_that_is_cancelled_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pid"
    os.mkfifo(pipe)
    script = f"import os, time; open({str(pipe)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    (tmp_path / "script.py").write_text(script)
    monkeypatch.setattr(library, "_SCRIPT", tmp_path / "script.py")
    book = a_book(tmp_path)
    loading = asyncio.create_task(book.load())
    number = int(await asyncio.to_thread(pipe.read_text))
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    monkeypatch.undo()
    await book.load()
    assert book.find("openai", "gpt-4o") is not None


async def test_the_library_gets_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    (tmp_path / "script.py").write_text("import os; print(sorted(os.environ))")
    monkeypatch.setattr(library, "_SCRIPT", tmp_path / "script.py")
    assert b"OPENAI_API_KEY" not in await library._dumped()


# --- the plugin -------------------------------------------------------------------------------------------------------


def an_attempt(target: str, usage: Usage, model: str | None = None) -> Attempt:
    return Attempt(
        number=1, provider="openai", target=target, started=0, started_at=EPOCH, sent=True, usage=usage, model=model
    )


async def test_the_configs_price_goes_before_the_lists(book: PriceBook) -> None:
    cost = Cost(Settings(prices={"gpt-4o": OwnPrice(input=7)}), host(prices=book))
    assert cost.price(an_attempt("gpt-4o", Usage(10, 0))) == 10 * 7000
    assert cost.price(an_attempt("gpt-4.1", Usage(10, 0))) == theirs("openai", "gpt-4.1", Usage(10, 0))
    # An alias of the provider's: what the config says of the model that answered goes before the list's of the alias.
    assert cost.price(an_attempt("gpt-4.1", Usage(10, 0), "gpt-4o")) == 10 * 7000
    assert cost.price(an_attempt("my-alias", Usage(10, 0), "gpt-4.1")) == theirs("openai", "gpt-4.1", Usage(10, 0))
    assert cost.price(an_attempt("my-alias", Usage(10, 0))) is None


async def test_the_rates_that_were_applied_are_on_record(book: PriceBook) -> None:
    cost = Cost(Settings(), host(prices=book))
    attempt = an_attempt("claude-sonnet-4-5", Usage(300_000, 10))
    attempt.provider = "anthropic"
    assert cost.price(attempt) == theirs("anthropic", "claude-sonnet-4-5", Usage(300_000, 10))
    recorded = msgspec.json.decode(attempt.tags["rates"])
    assert (recorded["input"], recorded["above"], recorded["source"]) == (6_000_000_000, 200_000, SOURCE)
    assert "tiers" not in recorded


async def test_the_start_names_what_has_no_price_and_nothing_else(state: Path) -> None:
    told: list[str] = []
    models = (
        Model("gpt-*", (("openai", "gpt-*"),)),
        Model("gpt-4o", (("openai", "gpt-4o"), ("own", "gpt-4o"))),
        Model("local-*", (("own", "local-*"),)),
        Model("new", (("openai", "gpt-99-nonsense"),)),
    )
    lent = host(prices=a_book(state, {**URLS, "own": OWN}), models=models, tell=told.append)
    await Cost(Settings(), lent).start()
    assert told == [
        "model gpt-4o: price unknown (own/gpt-4o)",
        "model local-*: price unknown (own/local-*)",
        "model new: price unknown (openai/gpt-99-nonsense)",
    ]


@pytest.mark.parametrize(("target", "read"), [("gpt-4o", False), ("local-*", False), ("gpt-5", True)])
async def test_lists_are_read_only_where_a_model_has_no_price_of_the_config(
    state: Path, target: str, read: bool
) -> None:
    prices = {"gpt-4o": OwnPrice(input=1), "local-*": OwnPrice(input=0)}
    book = a_book(state, URLS)
    await Cost(Settings(prices=prices), host(prices=book, models=(Model("fast", (("openai", target),)),))).start()
    assert bool(book.source) is read


async def test_the_first_call_of_a_name_under_a_pattern_is_priced() -> None:
    config = demo_config({"use": "cost"})
    config["providers"]["demo"]["base_url"] = URLS["openai"]
    config["models"] = {"gpt-*": {"provider": "demo"}}
    asked = {"model": "gpt-5-nano", "messages": [{"role": "user", "content": "Hi"}]}
    async with gateway(config) as running, aiohttp.ClientSession(running.url) as client:
        async with client.post("/v1/chat/completions", json=asked) as reply:
            usage = (await reply.json())["usage"]
            told = int(reply.headers["x-sidegate-cost-nano-usd"])
    assert told > 0
    assert told == theirs("openai", "gpt-5-nano", Usage(usage["prompt_tokens"], usage["completion_tokens"]))


async def test_a_hard_budget_holds_by_the_lists_and_refuses_what_is_in_none() -> None:
    config = demo_config({"use": "cost", "settings": {"budgets": [{"name": "all", "amount_usd": 1}]}})
    config["providers"]["demo"]["base_url"] = URLS["openai"]
    config["models"] = {"gpt-*": {"provider": "demo"}}
    asked = {"messages": [{"role": "user", "content": "Hi"}]}
    async with gateway(config) as running, aiohttp.ClientSession(running.url) as client:
        async with client.post("/v1/chat/completions", json={**asked, "model": "gpt-5-nano"}) as reply:
            assert reply.status == 200
            assert 0 < Decimal(reply.headers["x-sidegate-budget-remaining-usd"]) < 1
        async with client.post("/v1/chat/completions", json={**asked, "model": "gpt-99-nonsense"}) as reply:
            assert (await reply.json())["error"]["code"] == "model_not_priced"


# --- the process that serves ------------------------------------------------------------------------------------------

SERVED = """
listen: {port: 0}
admin: {port: 0}
providers:
  openai: {dialect: openai, api_key: a-key}
  anthropic: {dialect: anthropic, api_key: a-key}
models:
  gpt-*: {provider: openai}
  claude-sonnet-4-5: {provider: anthropic}
pipelines:
  main: {plugins: [{use: cost}]}
"""


def test_what_serves_has_the_prices_and_not_the_library(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(SERVED)
    environ = clean_environ(PYTHONPATH=":".join(path for path in sys.path if path))
    command: list[str | Path] = [sys.executable, "-m", "sidegate", "serve", tmp_path / "config.yaml"]
    for again in (False, True):
        assert bool(kept(tmp_path / "var")) is again
        with served(command, tmp_path, environ, tmp_path / "log") as running:
            maps = Path(f"/proc/{running.pid}/maps").read_text()
            status = Path(f"/proc/{running.pid}/status").read_text()
        assert "price unknown" not in running.said
        assert "no price lists" not in running.said
        # pydantic's compiled part would be mapped if it had ever been imported.
        assert "pydantic" not in maps
        assert "msgspec" in maps
        resident = int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024
        print(f"kept lists: {again}, ready after {running.seconds:.2f} s, {resident:.0f} MB")  # noqa: T201
        assert resident < 70


# --- the command ------------------------------------------------------------------------------------------------------

CONFIG = f"""
providers:
  openai: {{dialect: openai, api_key: a-key}}
  anthropic: {{dialect: anthropic, api_key: a-key}}
  own: {{dialect: openai, base_url: "{OWN}"}}
models:
  demo: {{provider: openai}}
  gpt-*: {{provider: openai}}
  long: {{provider: anthropic, model: claude-sonnet-4-5}}
  mine: {{provider: own, model: gpt-4o}}
pipelines:
  main: {{plugins: [{{use: cost, settings: {{prices: {{demo: {{input: 0.15, output: "0.60"}}}}}}}}]}}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return str(path)


def test_the_command_shows_each_price_and_its_source(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prices", config]) == 0
    lines = [re.split(r"\s{2,}", line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["USD per million tokens"]
    assert lines[1] == ["model", "target", "source", "input", "output", "cache read", "cache write"]
    assert lines[2] == ["demo", "openai/demo", "config", "0.15", "0.6", "0.15", "0.15"]
    assert lines[3] == ["gpt-*", "openai/(the name asked for)", SOURCE, "-", "-", "-", "-"]
    assert lines[4] == ["long", "anthropic/claude-sonnet-4-5", SOURCE, "3", "15", "0.3", "3.75"]
    assert lines[5] == ["", "above 200,000 input tokens", "6", "22.5", "0.6", "7.5"]
    assert lines[6] == ["mine", "own/gpt-4o", "unknown", "-", "-", "-", "-"]
    assert lines[-1] == ["Price unknown: mine (own/gpt-4o)"]


@pytest.mark.parametrize(
    "order", [["--json", "gpt-4o", "nix"], ["gpt-4o", "nix", "--json"], ["gpt-4o", "--json", "nix"]]
)
def test_the_command_for_programs(config: str, capsys: pytest.CaptureFixture[str], order: list[str]) -> None:
    assert main(["prices", config, *order]) == 0
    said = json.loads(capsys.readouterr().out)
    known, unknown = said["prices"]
    assert (said["library"], said["unknown"]) == (SOURCE, ["nix (not in the config)"])
    assert (known["model"], known["provider"], known["source"], known["pipeline"]) == (
        "gpt-4o",
        "openai",
        SOURCE,
        "main",
    )
    amounts = known["usd_per_million_tokens"]
    assert Decimal(amounts["input"]) * 10**9 == theirs("openai", "gpt-4o", Usage(10**6, 0))
    assert amounts["tiers"] == []
    assert unknown["usd_per_million_tokens"] is None


def test_a_strange_option_is_a_mistake(config: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["prices", config, "--jsn"])
    with pytest.raises(SystemExit, match="2"):
        main(["check", config, "another"])


def test_without_a_plugin_that_prices_the_lists_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(re.sub(r"\[\{use.*\}\]", "[]", CONFIG))
    assert main(["prices", str(path), "--json", "long"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["prices"]
    assert (row["pipeline"], row["source"]) == (None, SOURCE)
    amounts: dict[str, Any] = row["usd_per_million_tokens"]
    assert amounts["tiers"][0]["above_input_tokens"] == 200_000
