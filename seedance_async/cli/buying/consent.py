"""Whether the user wants to spend as much: known from the options, or asked."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import attrs
import click

from seedance_async._utils.plural import counted
from seedance_async.cli.buying.asking import agrees
from seedance_async.cli.buying.purchase import Purchase
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.journal import JournalEntry

Command = TypeVar("Command", bound=Callable[..., ExitCode])


@attrs.frozen
class Limit:
    """A limit on what all runs of a journal spend together.

    Attributes:
        credits: the limit.
        spent: what counts as spent of it.
    """

    credits: int
    spent: int

    @classmethod
    def of(cls, credits: int | None, entries: Iterable[JournalEntry]) -> Limit | None:
        """The limit of that many credits, given a journal; None if there is none."""
        return None if credits is None else cls(credits, sum(map(_spent, entries)))

    @property
    def left(self) -> int:
        """What can still be spent."""
        return max(0, self.credits - self.spent)


@attrs.frozen
class Consent:
    """What the user has agreed to beforehand.

    Attributes:
        ask_above: how many credits a command may spend unasked.
        yes: whether it may spend any number.
    """

    ask_above: int
    yes: bool

    def covers(self, purchase: Purchase, limit: Limit | None) -> bool:
        """Whether nothing is to be asked: what is bought certainly costs no more."""
        if self.yes or not purchase.lines:
            return True
        most = purchase.most(None if limit is None else limit.left)
        return most is not None and most <= self.ask_above


def may_buy(
    purchase: Purchase, consent: Consent, screen: Screen, limit: Limit | None = None
) -> bool:
    """Whether to buy that; shows it and asks, unless the user has agreed beforehand."""
    if consent.covers(purchase, limit):
        return True
    for row in purchase.table():
        screen.say(row, whole=True)
    if limit is not None:
        screen.say(
            f"Limit: {counted(limit.credits, 'credit')}, of which {limit.spent:,} are spent: "
            f"{limit.left:,} left"
        )
    if purchase.unknown and purchase.problem:
        screen.say(purchase.problem)
    if purchase.columns:
        screen.say(purchase.columns)
    jobs = counted(len(purchase.lines), "job")
    above = f"; --ask-above, now {consent.ask_above:,}, lets it buy what costs no more"
    return agrees(
        f"Buy {jobs} for {purchase.total()}?",
        f"{jobs} would cost {purchase.total()}. --yes buys without a question"
        f"{'' if purchase.unknown else above}.",
        screen,
    )


def consent(command: Command) -> Callable[..., ExitCode]:
    """`--yes` and `--ask-above`; the command gets them as `consent`."""

    @click.option("--yes", is_flag=True, help="Do not ask before spending.")
    @click.option(
        "--ask-above",
        type=click.IntRange(min=0),
        default=200,
        show_default=True,
        envvar="SEEDANCE_ASK_ABOVE",
        metavar="CREDITS",
        help="Ask before spending more than that, or an unknown number of credits. Where nobody"
        " can answer, nothing is sent then, unless --yes is given. Also SEEDANCE_ASK_ABOVE.",
    )
    @functools.wraps(command)
    def run(yes: bool, ask_above: int, **rest: Any) -> ExitCode:
        return command(consent=Consent(ask_above, yes), **rest)

    return run


def _spent(entry: JournalEntry) -> int:
    """What a job has cost, or may have."""
    charged = entry.credits_charged
    if charged is None:
        charged = 0 if entry.state == "rejected" else entry.credits_reserved
    return (charged or 0) + (entry.credits_doubtful or 0)
