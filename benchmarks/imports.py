"""The cost of `import seedance_async` relative to importing its four dependencies.

    python -m benchmarks.imports [--pairs 40] [--quick]

Each import runs in a fresh interpreter that measures itself: seconds of wall clock and of CPU
around the import statement, without the interpreter's own start. The two take turns, the order
changes with each pair, and the result is the median of the pairs' ratios. The first pair fills the
caches (the `.pyc` files and the file system's) and is discarded. Finally `-X importtime` measures
our own modules alone, and the modules imported beyond those of the dependencies are counted.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from statistics import median
from typing import Any

import attrs

from benchmarks.report import Target, draw_bars, report

_OURS = "seedance_async"
_DEPENDENCIES = "aiohttp, anyio, attrs, cattrs"
_MEASURED = """
import time
began, before = time.perf_counter(), time.process_time()
import {}
print(time.perf_counter() - began, time.process_time() - before)
"""
_NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
_LISTED = "import {}, sys, json; print(json.dumps(sorted(sys.modules)))"
_LINE = re.compile(r"import time: +(?P<own>\d+) \| +\d+ \| +(?P<module>\S+)")


@attrs.frozen
class Cost:
    """The cost of one import, in seconds."""

    wall: float
    cpu: float


def cost(imported: str) -> Cost:
    """The cost of an import in a fresh interpreter."""
    printed = _output("-c", _MEASURED.format(imported)).split()
    return Cost(*map(float, printed))


def pairs(count: int) -> Iterator[tuple[Cost, Cost]]:
    """The cost of the SDK and that of its dependencies, measured one right after the other."""
    for number in range(-1, count):
        if number % 2:
            theirs, ours = cost(_DEPENDENCIES), cost(_OURS)
        else:
            ours, theirs = cost(_OURS), cost(_DEPENDENCIES)
        if number >= 0:
            yield ours, theirs


def own_modules(runs: int) -> dict[str, float]:
    """Milliseconds that each module of the SDK takes alone, the median of several runs."""
    found: dict[str, list[float]] = {}
    for _ in range(runs):
        for line in _errors("-X", "importtime", "-c", f"import {_OURS}").splitlines():
            match = _LINE.match(line)
            if match and match["module"].partition(".")[0] == _OURS:
                found.setdefault(match["module"], []).append(int(match["own"]) / 1000)
    return {module: median(times) for module, times in found.items()}


def extra_modules() -> list[str]:
    """The modules that the SDK imports besides its own and those of its dependencies."""
    ours, theirs = (json.loads(_output("-c", _LISTED.format(m))) for m in (_OURS, _DEPENDENCIES))
    return sorted(m for m in set(ours) - set(theirs) if m.partition(".")[0] != _OURS)


def _output(*arguments: str) -> str:
    return _run(*arguments).stdout


def _errors(*arguments: str) -> str:
    return _run(*arguments).stderr


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Bytecode is written, as pip does for installed packages.
    kept = {name: value for name, value in os.environ.items() if name != _NO_BYTECODE}
    command = [sys.executable, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=kept)


def _rows(measured: list[tuple[Cost, Cost]]) -> Iterator[list[Any]]:
    for name, side in (("dependencies", 1), (_OURS, 0)):
        walls = [1000 * pair[side].wall for pair in measured]
        cpus = [1000 * pair[side].cpu for pair in measured]
        yield [f"import {name}", median(walls), min(walls), median(cpus), min(cpus)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--quick", action="store_true", help="20 pairs")
    options = parser.parse_args()
    measured = list(pairs(20 if options.quick else options.pairs))
    wall = median(ours.wall / theirs.wall for ours, theirs in measured)
    cpu = median(ours.cpu / theirs.cpu for ours, theirs in measured)
    modules, extra = own_modules(runs=5), extra_modules()
    report(
        "imports",
        header=("in a fresh interpreter", "ms, median", "min", "CPU ms, median", "min"),
        rows=[
            *_rows(measured),
            ["median ratio of the pairs", wall, "", cpu, ""],
            [
                f"our {len(modules)} modules, by -X importtime",
                sum(modules.values()),
                "",
                "",
                "",
            ],
            [f"other modules imported: {len(extra)}", "", "", "", ""],
        ],
        targets=[Target("import time relative to the dependencies", wall, at_most=1.15)],
        packages=("aiohttp", "anyio", "attrs", "cattrs"),
        details={
            "pairs": [[attrs.asdict(ours), attrs.asdict(theirs)] for ours, theirs in measured],
            "own modules, ms": dict(sorted(modules.items(), key=lambda item: -item[1])),
            "other modules": extra,
        },
    )
    longest = dict(sorted(modules.items(), key=lambda item: -item[1])[:10])
    draw_bars(
        "imports",
        {
            "relative to the dependencies": {
                "wall clock": [ours.wall / theirs.wall for ours, theirs in measured],
                "CPU": [ours.cpu / theirs.cpu for ours, theirs in measured],
            },
            "our slowest modules, ms": {name: [ms] for name, ms in longest.items()},
        },
    )


if __name__ == "__main__":
    main()
