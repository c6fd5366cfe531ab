"""The process in which the schema plugins check: run as a script, spoken to through its pipes, killed at will.

A request is three numbers (milliseconds, length of the schema, length of the instance, big-endian) and the two JSON
texts; length 0xFFFFFFFF: no instance, only see whether the schema can be used. The answer is its length and JSON:
`unsupported` (the schema), `malformed` (the instance) or `errors`, a list of JSON pointer and message.
"""

from __future__ import annotations

import json
import signal
import struct
import sys
from functools import lru_cache
from itertools import islice
from typing import Any, BinaryIO

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

HEAD = struct.Struct(">III")
LENGTH = struct.Struct(">I")
NO_INSTANCE = 0xFFFFFFFF
READY = b"\x01"

_MAX_ERRORS = 5
_MAX_MESSAGE = 200
_MAX_MEMORY = 2**30


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until the other end is closed."""
    answers.write(READY)
    answers.flush()
    while head := requests.read(HEAD.size):
        milliseconds, schema_size, instance_size = HEAD.unpack(head)
        schema = requests.read(schema_size)
        instance = None if instance_size == NO_INSTANCE else requests.read(instance_size)
        _die_after(milliseconds / 1000)
        body = json.dumps(check(schema, instance)).encode()
        _die_after(0)
        answers.write(LENGTH.pack(len(body)) + body)
        answers.flush()


def check(schema: bytes, instance: bytes | None) -> dict[str, Any]:
    """One check. What goes wrong with the schema is said; whatever holds the process is its killer's matter."""
    try:
        validator = _compiled(schema)
        if instance is None:
            return {}
        try:
            # Decoded first: left to itself, `json` takes what begins with a mark of its encoding, and UTF-16.
            value = json.loads(instance.decode(), parse_constant=_no_constant, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            return {
                "malformed": "is nested too deeply" if isinstance(error, RecursionError) else str(error)[:_MAX_MESSAGE]
            }
        return {"errors": [_told(error) for error in islice(validator.iter_errors(value), _MAX_ERRORS)]}
    except SchemaError as error:
        return {"unsupported": error.message[:_MAX_MESSAGE]}
    except Unresolvable as error:
        return {"unsupported": f"the reference {error.ref!r:.100} leads nowhere"}
    except RecursionError:
        return {"unsupported": "it refers to itself without end"}
    except Exception as error:
        return {"unsupported": type(error).__name__}


@lru_cache(64)
def _compiled(schema: bytes) -> Validator:
    value = json.loads(schema)
    draft = validator_for(value, default=Draft202012Validator)
    draft.check_schema(value)
    # An empty registry has no way to fetch anything.
    return draft(value, registry=Registry())


def _told(error: ValidationError) -> list[str]:
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in error.absolute_path)
    return ["".join(f"/{step}" for step in steps)[:_MAX_MESSAGE], error.message[:_MAX_MESSAGE]]


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice in one object")
    return found


def _die_after(seconds: float) -> None:
    """Even where nobody is left to kill: the signal's default ends the process, in the midst of a regex too."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _bound() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        import resource

        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    _bound()
    serve(sys.stdin.buffer, sys.stdout.buffer)
