"""Book: the prices of a gateway's providers. What plugins get as `host.prices`."""

from __future__ import annotations

from asyncio import Lock
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from sidegate.contract.host import Clock, Log
from sidegate.contract.prices import Rates
from sidegate.prices.integers import rates
from sidegate.prices.library import LIBRARY, PricesUnavailable, installed, price_lists
from sidegate.prices.table import MAX_NAME, Listed, Price, PriceList

MOST_NAMES = 1024
"""Model names whose place in a list is remembered. Clients choose names, so there must be a bound."""


class PriceBook:
    """Finds the price of a provider's model. `urls`: the base URL of each provider, by its name in the config.

    The URL alone says whose prices count: what speaks OpenAI's dialect at an address of its own is not OpenAI.
    """

    def __init__(
        self, urls: Mapping[str, str], state: Path, clock: Clock, log: Log, tell: Callable[[str], None]
    ) -> None:
        self._urls = {name: url for name, url in urls.items() if url}
        self._folder = state / "prices"
        self._clock = clock
        self._log = log
        self._tell = tell
        self._loading = Lock()
        self._loaded = False
        self._lists: Mapping[str, PriceList] = {}
        self._listed: dict[tuple[str, str], Listed | None] = {}
        self._rates: dict[int, tuple[Price, Rates | None]] = {}
        self.source = ""
        """The library with its version; empty until the lists are there."""

    async def load(self) -> None:
        """Read the lists of the providers, once. Where that fails, a line on the terminal and in the log says so."""
        async with self._loading:
            if not self._loaded and self._urls:
                await self._load()
            self._loaded = True

    def find(self, provider: str, model: str, at: datetime | None = None) -> Rates | None:
        """The price at a time, now if left out; `None` where it is unknown."""
        listed = self._find(provider, model)
        if listed is None:
            return None
        price = listed.price(at or self._clock.now())
        return None if price is None else self._in_integers(price)

    find_rates = find
    """Asked as a plugin that prices calls is asked."""

    def serves(self, urls: Mapping[str, str]) -> bool:
        """Whether it has the lists of just these providers: a book that found none is not asked again."""
        return bool(self.source) and self._urls == {name: url for name, url in urls.items() if url}

    def knows(self, provider: str) -> bool:
        """Whether there is a price list of that provider."""
        return provider in self._lists

    async def _load(self) -> None:
        try:
            version = installed()
            self._lists = await price_lists(version, self._folder, self._urls)
        except PricesUnavailable as error:
            self._log.write("prices_unavailable", {"reason": str(error)})
            self._tell(f"no price lists: {error}; only prices of the config are known")
            return
        self.source = f"{LIBRARY} {version}"

    def _find(self, provider: str, model: str) -> Listed | None:
        key = (provider, model)
        if key in self._listed:
            return self._listed[key]
        prices = self._lists.get(provider)
        if prices is None or len(model) > MAX_NAME:
            return None
        if len(self._listed) >= MOST_NAMES:
            self._listed.clear()
        found = self._listed[key] = prices.find(model)
        return found

    def _in_integers(self, price: Price) -> Rates | None:
        """Converted once; a list's prices live as long as the book, so each is known by its identity."""
        known = self._rates.get(id(price))
        if known is None:
            known = self._rates[id(price)] = (price, rates(price, self.source))
        return known[1]
