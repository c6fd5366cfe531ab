"""`python -m bench`: the table, the counts, or everything that is published."""

from __future__ import annotations

import sys
from collections.abc import Sequence

COUNTING = ("--count", "--compare", "--keep")


def main(arguments: Sequence[str]) -> int:
    if any(argument in COUNTING for argument in arguments):
        from bench.counting import main as counting

        return counting(arguments)
    if "--publish" in arguments:
        from bench.publish import main as publish

        return publish(arguments)
    from bench.run import main as run

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
