"""Opening: from a ledger's URL to the store of keys in it."""

from __future__ import annotations

from sidegate.keys.store import KeyStore, NoKeyStore


def open_keys(url: str) -> KeyStore:
    """The store of keys in the ledger a URL means, where that is open in this process. Nothing is opened before it is
    needed."""
    if not url:
        return NoKeyStore()
    from sidegate.keys.sql import keys_of

    return keys_of(url)
