"""A purchase: the lines that would be bought now, and what they are expected to cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import attrs

from seedance_async._utils.plural import counted
from seedance_async.cli.inputs import Line
from seedance_async.journal import JournalEntry
from seedance_async.session.estimate import Cost, plan

#: How many kinds of jobs are shown: extra fields can make each job one of its own.
_SHOWN = 20


@attrs.frozen
class Purchase:
    """Lines that would be bought.

    Attributes:
        lines: in the order of the input.
        costs: what each is expected to cost.
        problem: why nobody knows better, if something failed.
        charged: the kinds whose price the limit on credits knows from a charge.
    """

    lines: Sequence[Line]
    costs: Sequence[Cost]
    problem: str | None = None
    charged: Collection[object] = frozenset()

    @property
    def credits(self) -> int:
        """The sum of what is known."""
        return sum(cost.credits or 0 for cost in self.costs)

    @property
    def unknown(self) -> int:
        """How many are not in that sum."""
        return sum(cost.credits is None for cost in self.costs)

    def most(self, left: int | None) -> int | None:
        """The most credits that can be spent on it; None if nobody knows.

        Args:
            left: what the limit on credits leaves, if there is one. A job of a kind that was never
                charged may pass it, and is then the last one.
        """
        if left == 0:
            return 0
        if self.unknown:
            return None
        if left is None:
            return self.credits
        pairs = zip(self.lines, self.costs, strict=True)
        new = (cost.credits or 0 for line, cost in pairs if line.request.kind not in self.charged)
        return min(self.credits, left + max(new, default=0))

    @property
    def columns(self) -> str:
        """What to know of the columns of the input that are not sent; empty if there are none."""
        names = dict.fromkeys(name for line in self.lines for name in line.columns)
        return f"columns for results and names, not sent: {', '.join(names)}" if names else ""

    def total(self) -> str:
        """The sum for people."""
        if self.unknown == len(self.costs):
            return "an unknown number of credits"
        bound = "at most" if any(cost.is_ceiling for cost in self.costs) else "about"
        others = f", and {counted(self.unknown, 'job')} of unknown cost" if self.unknown else ""
        return f"{bound} {counted(self.credits, 'credit')}{others}"

    def _sum_text(self, known: Cost) -> str:
        if not self.unknown:
            return cost_text(known)
        return "unknown" if self.unknown == len(self.costs) else f"{cost_text(known)} + unknown"

    def table(self) -> Iterator[str]:
        """The kinds of jobs, with their number and their cost each and in sum."""
        kinds = Counter(
            (kind_text(line), cost) for line, cost in zip(self.lines, self.costs, strict=True)
        )
        rows = [("jobs", "credits each", "in sum", "kind")]
        for (kind, cost), count in kinds.most_common(_SHOWN):
            total = attrs.evolve(cost, credits=cost.credits and cost.credits * count)
            rows.append((f"{count:,}", cost_text(cost), cost_text(total), kind))
        if (more := len(kinds) - _SHOWN) > 0:
            rows.append(("…", "", "", f"and {counted(more, 'other kind')}"))
        if len(kinds) > 1:
            known = Cost(self.credits, any(cost.is_ceiling for cost in self.costs))
            rows.append((f"{len(self.lines):,}", "", self._sum_text(known), "in all"))
        widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:3]]
        for row in rows:
            cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=False))
            yield "  ".join([*cells, row[3]])


def new_lines(
    lines: Sequence[Line], entries: Sequence[JournalEntry], *, resubmit_uncertain: bool
) -> list[Line]:
    """Those of the lines that a run with this journal would buy."""
    items = [line.item for line in lines]
    return [lines[at] for at in plan(entries, items, resubmit_uncertain=resubmit_uncertain).new]


def kind_text(line: Line) -> str:
    """What the price of a line depends on, for people."""
    model, duration, resolution, mode, *extra = line.request.kind
    given = [f"{duration} s" if duration is not None else "", resolution or ""]
    by_server = [(duration, "length"), (resolution, "resolution")]
    names = " and ".join(name for value, name in by_server if value is None)
    left = f"default {names}" if names else ""
    return ", ".join(filter(None, [model, *given, mode.replace("_", " "), left, *extra]))


def cost_text(cost: Cost) -> str:
    """A cost for people."""
    if cost.credits is None:
        return "unknown"
    return f"{'up to ' if cost.is_ceiling else ''}{cost.credits:,}"
