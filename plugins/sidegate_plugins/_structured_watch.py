"""How the `structured_output` plugin reads along: with a reply that is held, and with a stream that passes."""

from __future__ import annotations

from collections.abc import Iterable

from sidegate.contract import Chunk, Ending, Finish, Hold
from sidegate_plugins._json_fence import Fences
from sidegate_plugins._structured_reading import Reading


class Watch:
    """Reads along with a reply that is held."""

    def __init__(self, strips: bool) -> None:
        self._strips = strips
        self.fences = Fences()
        self.reading: Reading

    def begin(self, reading: Reading) -> None:
        """Another run of the call."""
        self.fences, self.reading = Fences(), reading

    def see(self, chunk: Chunk) -> None:
        for part in chunk.parts:
            for each in self.fences.passed(part) if self._strips else (part,):
                self.reading.part(each)


class Relay:
    """Reads along with a stream that passes, as an edit or a tap, and holds its end back."""

    def __init__(self, reading: Reading, held: Hold) -> None:
        self._reading = reading
        self._held = held
        self._fences = Fences()

    def look(self, chunk: Chunk) -> None:
        for part in chunk.parts:
            self._reading.part(part)
            if type(part) is Finish and self._reading.finished:
                self._held.close()
        if chunk.closing:
            self._held.close()

    def see(self, chunk: Chunk) -> Iterable[Chunk]:
        parts = [each for part in chunk.parts for each in self._fences.passed(part)]
        said = chunk if tuple(parts) == chunk.parts else None
        given = [said] if said is not None else [Chunk.of(part) for part in parts]
        for each in given:
            self.look(each)
        return given

    def end(self, ending: Ending) -> Iterable[Chunk]:
        self._held.close()
        return ()


def unfence(held: Hold) -> None:
    fences = Fences()
    held.chunks = [
        chunk.with_parts(each for part in chunk.parts for each in fences.passed(part)) for chunk in held.chunks
    ]
