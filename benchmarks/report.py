"""The output of every benchmark: the machine, a table, the targets, JSON and a plot."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import attrs

RESULTS = Path(__file__).parent / "results"


@attrs.frozen
class Target:
    """One promise, with the value that a run measured.

    `at_most` or `at_least` is the bound; the other is None.
    """

    name: str
    value: float
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool:
        """Whether the value is within its bound; NaN is not."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return self.at_least is not None and self.value >= self.at_least

    def __str__(self) -> str:
        low = self.at_most is None
        bound = f"at least {self.at_least:g}" if low else f"at most {self.at_most:g}"
        verdict = "met" if self.met else "MISSED"
        return f"{verdict:<7} {self.name}: {self.value:.3g} ({bound})"


def machine(*packages: str) -> str:
    """The date, the machine and the versions of these packages, in one line."""
    parts = [
        f"{date.today()}",
        f"{os.cpu_count()} cores",
        _cpu(),
        f"{platform.system()} {platform.release()}",
        f"{platform.python_implementation()} {platform.python_version()}",
        *(f"{name} {version(name)}" for name in packages),
    ]
    return ", ".join(parts)


def report(
    name: str,
    *,
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    targets: Sequence[Target] = (),
    packages: Sequence[str] = ("aiohttp",),
    details: Any = None,
) -> None:
    """Print the table and the targets, and write `results/<name>.json`.

    Args:
        name: of the benchmark.
        header: the columns' names.
        rows: the cells of each row; a float is shown with three significant digits.
        targets: the promises.
        packages: whose versions are shown.
        details: anything else for the JSON.
    """
    ran_on = machine(*packages)
    lines = [f"{name}: {ran_on}", "", table(header, rows)]
    if targets:
        lines += ["", *(str(target) for target in targets)]
    printed = "\n".join(lines)
    print(printed)
    kept = {
        "benchmark": name,
        "machine": ran_on,
        "command": " ".join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]),
        "printed": printed,
        "header": list(header),
        "rows": [list(row) for row in rows],
        "targets": [{**attrs.asdict(target), "met": target.met} for target in targets],
        "details": details,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(kept, indent=1, default=str) + "\n", encoding="utf-8")


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A plain-text table: the first column is left-aligned, the others right-aligned."""
    cells = [list(header), *([_shown(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = []
    for row in cells:
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)


def plot_path(name: str) -> Path:
    """The path of a benchmark's plot."""
    RESULTS.mkdir(exist_ok=True)
    return RESULTS / f"{name}.png"


def pyplot() -> Any:
    """matplotlib's pyplot, drawing to files, in one style for all plots."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"figure.dpi": 110, "axes.grid": True, "grid.alpha": 0.3, "font.size": 9})
    return plt


def draw_bars(name: str, panels: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Write a benchmark's plot: a panel of bars for each title, with a dot for each run.

    Args:
        name: of the benchmark.
        panels: for each title, the name of each bar and the values of its runs.
    """
    plt = pyplot()
    height = 1.1 + 0.3 * max(map(len, panels.values()))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(5.5 * len(panels), height), squeeze=False, layout="constrained"
    )
    for axis, (title, bars) in zip(axes.flat, panels.items(), strict=True):
        places = range(len(bars), 0, -1)
        axis.barh(places, [median(runs) for runs in bars.values()], alpha=0.5)
        for place, runs in zip(places, bars.values(), strict=True):
            axis.plot(runs, [place] * len(runs), "k.", markersize=4)
        axis.set_yticks(places, bars)
        axis.set(title=title)
    figure.savefig(plot_path(name))


def _shown(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.3g}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def _cpu() -> str:
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    names = (line.split(":", 1)[1].strip() for line in cpuinfo.splitlines() if "model name" in line)
    return next(names, platform.machine())
