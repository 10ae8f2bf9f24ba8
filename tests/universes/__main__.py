"""`python -m tests.universes`: many universes, or one, or the mutants; 1 if something was wrong."""

import argparse
import os
import sys

from tests.universes.search import hunt_mutants, replay, search


def main(arguments=None):
    """Run the command; its exit code."""
    options = _parser().parse_args(arguments)
    if options.replay is not None:
        return replay(options.replay, smaller=options.shrink)
    if options.mutants:
        return hunt_mutants(options.first, options.seeds or 10_000, options.workers)
    return search(options.first, options.seeds or 100_000, options.workers)


def _parser():
    parser = argparse.ArgumentParser(prog="python -m tests.universes", description=__doc__)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--seeds", type=int, help="how many (100,000; at most 10,000 a mutant)")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--workers", type=int, default=cpus, help="processes")
    parser.add_argument("--mutants", action="store_true", help="take out each safeguard in turn")
    parser.add_argument("--replay", type=int, metavar="SEED", help="play one, and show all of it")
    parser.add_argument("--shrink", action="store_true", help="make the replayed one smaller first")
    return parser


if __name__ == "__main__":
    sys.exit(main())
