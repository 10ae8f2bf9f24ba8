"""What every command that calls the API shares: its options, its session, its screen."""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec

import attrs
import click

from seedance_async import Backoff, SeedanceSession
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.signals import cancelled_by_sigterm

P = ParamSpec("P")

#: Growth of the time between two looks at a job, from the first to the longest.
_POLL_GROWTH = 15

POSITIVE = click.FloatRange(min=0, min_open=True)
COUNT = click.IntRange(min=1)


@attrs.frozen
class Connection:
    """Where the API is and how often it is asked. The key is in the environment alone."""

    screen: Screen
    base_url: str | None = None
    poll_interval: float = 2.0
    verbose: bool = False

    def session(self, **options: Any) -> SeedanceSession:
        """A session with the command's options; see `SeedanceSession` for what it raises."""
        longest = _POLL_GROWTH * self.poll_interval
        poll = Backoff(
            initial=self.poll_interval, maximum=longest, floor=min(0.01, self.poll_interval)
        )
        return SeedanceSession(base_url=self.base_url, poll=poll, **options)

    def offline_session(self) -> SeedanceSession:
        """A session to check requests with: it needs no key, because it sends nothing."""
        key = os.environ.get("SEEDANCE_API_KEY") or "unused"
        return SeedanceSession(api_key=key, base_url=self.base_url)


def command(work: Callable[..., Awaitable[ExitCode]]) -> Callable[..., ExitCode]:
    """Make a coroutine that takes a `Connection` into a click command's function."""

    @click.option("--base-url", help="The API's origin; else SEEDANCE_BASE_URL, else the vendor's.")
    @click.option(
        "--poll-interval",
        type=POSITIVE,
        default=2.0,
        show_default=True,
        help="Seconds before the first look at a job; later ones are up to 15 times apart.",
    )
    @click.option("--verbose", is_flag=True, help="Show the SDK's log on stderr.")
    @functools.wraps(work)
    def run(base_url: str | None, poll_interval: float, verbose: bool, **rest: Any) -> ExitCode:
        screen = Screen()
        connection = Connection(screen, base_url, poll_interval, verbose)
        with screen.logging(verbose):
            return asyncio.run(_awaited(work(connection, **rest)))

    return run


async def _awaited(work: Awaitable[ExitCode]) -> ExitCode:
    with cancelled_by_sigterm():
        return await work


def request_options(target: Callable[P, ExitCode]) -> Callable[P, ExitCode]:
    """The options that say what a video is like; absent ones are left to the server."""
    for option in (
        click.option("--resolution", help="480p, 720p or 1080p."),
        click.option("--duration", type=int, help="Whole seconds."),
        click.option("--aspect-ratio", help="16:9, 9:16 or 1:1."),
        click.option("--model", help="The model id.  [default: seedance-2.0]"),
    ):
        target = option(target)
    return target


def json_object(_context: object, _parameter: object, text: str | None) -> Any:
    """A click callback: the option's text as a JSON object."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise click.BadParameter("not a JSON object")
    return value


def only_given(**fields: Any) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}
