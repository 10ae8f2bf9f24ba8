"""A question to the user, who may not be there."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from seedance_async.cli.console import Screen


def agrees(question: str, otherwise: str, screen: Screen) -> bool:
    """Ask, if somebody can answer; else say what to do otherwise, which is no agreement.

    Raises click.Abort if the user leaves instead of answering.
    """
    if not sys.stdin.isatty():
        screen.say(f"Nothing was bought; {otherwise}", style="yellow")
        return False
    with _interruptible():
        agreed = click.confirm(question, err=True)
    if not agreed:
        screen.say("Nothing was bought.")
    return agreed


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let signals end the wait for an answer: in an event loop they would only cancel its task."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
