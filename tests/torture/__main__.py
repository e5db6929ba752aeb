"""`python -m tests.torture --seed 7 --faults 500`: faults on a stack of its own; exit status 0 when nothing was found."""

from __future__ import annotations

import argparse
import signal
import sys

from tests.torture.run import Torture


def main(argv: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the same seed chooses the same faults and stories")
    parser.add_argument("--faults", type=int, default=100, help="how many faults must hit")
    parser.add_argument("--pause", type=float, default=3.5, help="seconds between two faults, on average")
    parser.add_argument("--home", default="", help="an empty folder for the stack (default: one of its own)")
    chosen = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the stack as Ctrl-C does
    return Torture(chosen.seed, chosen.faults, chosen.pause, chosen.home).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
