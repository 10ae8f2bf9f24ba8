"""Requests judged as a session will, before it is opened: by the server's list where that tells."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click

from seedance_async import SeedanceClient, SeedanceSession, Violation
from seedance_async.api.models import ModelInfo
from seedance_async.cli.console import Screen
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.journal_entries import KnownJobs
from seedance_async.journal.keys import keys_of

#: What to do where a model is said not to take something that the server may take.
NO_STRICT = "--no-strict leaves what a model takes to the server to judge"

_T = TypeVar("_T")

strict = click.option(
    "--strict/--no-strict",
    default=True,
    help="Check requests before anything is sent, by the server's list of models where it tells,"
    " else by the API's page; or leave all judging to the server.  [default: strict]",
)


def sent_before(
    journal: Path | str | None, media_key: Callable[[str], str] | None
) -> Callable[[Line], bool]:
    """Whether an earlier run has sent a line, or, if it has no key, an equal one.

    The journal is read when that is first asked.
    """
    keys = functools.cache(lambda: KnownJobs.read(journal, media_key).sent_keys)
    return lambda line: next(keys_of([line.item], media_key=media_key)) in keys()


async def by_the_servers_list(
    session: SeedanceSession,
    check: Callable[[Sequence[ModelInfo]], tuple[_T, list[Violation]]],
    screen: Screen,
) -> _T:
    """What a check gives by what is known of the server's models.

    Args:
        session: it learns what the server tells. It is not opened, so that it can be left as it is.
        check: gives its outcome, and everything that is broken, by a list of models. Called again
            with the server's list if that may lift some of it.
        screen: is told if that cannot be read.
    """
    known = session.client.capabilities
    found, broken = check(known.models)
    of_model = [each for each in broken if each.of_model]
    key = os.environ.get("SEEDANCE_API_KEY")
    if not of_model or not key:
        return found
    async with SeedanceClient(key, session.client.base_url) as client:
        if not await client.capabilities.may_lift(of_model):
            screen.say("The server's list of models could not be read: the documented limits hold.")
            return found
        known.learn(client.capabilities.models)
    return check(known.models)[0]
