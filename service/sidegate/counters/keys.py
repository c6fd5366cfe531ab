"""Keys in a shared store: as they are where they are short, so that people can read them; else a digest."""

from __future__ import annotations

from hashlib import blake2b

LONGEST = 128
"""Characters. Names of end users come from outside, and may be longer than anybody wants to keep."""


def shared_key(key: str) -> str:
    """Two different keys stay different: no key of a limit begins as a digest does."""
    if len(key) <= LONGEST and _encodes(key):
        return key
    return "\x00" + blake2b(key.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


def _encodes(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
