"""What a batch would do and cost, for `--dry-run`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from seedance_async._utils.plural import counted
from seedance_async.cli.buying.left_behind import LeftBehind
from seedance_async.cli.buying.purchase import Purchase, cost_text, kind_text
from seedance_async.cli.console import Screen
from seedance_async.cli.runs.journal_entries import state_text
from seedance_async.cli.text import shorten
from seedance_async.session.estimate import Plan


def show_forecast(
    purchase: Purchase,
    plan: Plan,
    left: LeftBehind,
    journal: Path | str | None,
    screen: Screen,
    *,
    as_json: bool,
) -> None:
    """Print it: the sums, what to know, and each line that would be bought; or JSON."""
    if as_json:
        for record in _records(purchase):
            screen.record(record)
        return
    for text in _texts(purchase, plan, left, journal):
        screen.answer(text)


def _records(purchase: Purchase) -> Iterator[dict[str, object]]:
    for line, cost in zip(purchase.lines, purchase.costs, strict=True):
        yield {
            "line": line.number,
            "take": line.take,
            "prompt": line.request.prompt,
            "credits": cost.credits,
            "is_ceiling": cost.is_ceiling,
        }


def _texts(
    purchase: Purchase, plan: Plan, left: LeftBehind, journal: Path | str | None
) -> Iterator[str]:
    yield f"{counted(len(purchase.lines), 'job')} would be submitted; nothing was sent"
    if plan.known:
        states = Counter[str]()
        for state, count in plan.known.items():
            states[state_text(state)] += count
        counts = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
        are = "is" if plan.known.total() == 1 else "are"
        yield f"{counted(plan.known.total(), 'line')} {are} already in {journal}: {counts}"
    yield from left.texts()
    if not purchase.lines:
        return
    if purchase.columns:
        yield purchase.columns
    if purchase.unknown < len(purchase.lines):
        yield f"estimated cost: {purchase.total()}"
    if purchase.unknown:
        yield f"cost unknown for {counted(purchase.unknown, 'job')}: {_reason(purchase)}"
    for line, cost in zip(purchase.lines, purchase.costs, strict=True):
        take = f" take {line.take}" if line.take > 1 else ""
        prompt = shorten(line.request.prompt, 40)
        yield f"  line {line.number}{take}: {cost_text(cost)} ({kind_text(line)}) “{prompt}”"


def _reason(purchase: Purchase) -> str:
    nothing = "nothing like these was charged yet"
    return f"{nothing}, and {purchase.problem or 'the server lists no price for them'}"
