"""Surrogates: JSON can spell half a character, as `"\\ud83d"` (RFC 8259, section 8.2).

Servers that cut text between UTF-16 units send an emoji as two halves, in two events. It is no Unicode, so that nothing
here can read it; I-JSON forbids it (RFC 7493, section 2.1).
"""

from __future__ import annotations

import re

# From each backslash on, so that an escaped one begins nothing.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[dD][89a-fA-F][0-9a-fA-F]{2}|.)", re.DOTALL
)
_HALF = 6
"""Bytes of one escape that stands alone; a pair has twice as many."""


def without_halves(data: bytes) -> bytes:
    """JSON with U+FFFD for each half that stands alone; the same object where there is none."""
    if b"\\ud" not in data and b"\\uD" not in data:
        return data
    mended = _ESCAPE.sub(lambda found: b"\\ufffd" if len(found[0]) == _HALF else found[0], data)
    return data if mended == data else mended
