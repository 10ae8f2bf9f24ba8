"""Requests judged as a session will, before it is opened: by the server's list where that tells."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import click

from seedance_async import SeedanceClient, SeedanceSession, Violation
from seedance_async.api.models import ModelInfo

#: What to do where a model is said not to take something that the server may take.
NO_STRICT = "--no-strict leaves what a model takes to the server to judge"

_T = TypeVar("_T")

strict = click.option(
    "--strict/--no-strict",
    default=True,
    help="Check requests before anything is sent, by the server's list of models where it tells,"
    " else by the API's page; or leave all judging to the server.  [default: strict]",
)


async def by_the_servers_list(
    session: SeedanceSession, check: Callable[[Sequence[ModelInfo]], tuple[_T, list[Violation]]]
) -> _T:
    """What a check gives by what is known of the server's models.

    Args:
        session: it learns what the server tells. It is not opened, so that it can be left as it is.
        check: gives its outcome, and everything that is broken, by a list of models. Called again
            with the server's list if that may lift some of it.
    """
    known = session.client.capabilities
    found, broken = check(known.models)
    of_model = [each for each in broken if each.of_model]
    key = os.environ.get("SEEDANCE_API_KEY")
    if not of_model or not key:
        return found
    async with SeedanceClient(key, session.client.base_url) as client:
        if not await client.capabilities.may_lift(of_model):
            return found
        known.learn(client.capabilities.models)
    return check(known.models)[0]
