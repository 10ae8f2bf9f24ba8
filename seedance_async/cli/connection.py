"""What every command that calls the API shares: its connection options, its session, its screen."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import attrs
import click

from seedance_async import ConfigurationError, LearnedPolls, SeedanceSession
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.options import POSITIVE
from seedance_async.cli.signals import cancelled_by_sigterm

if TYPE_CHECKING:
    from seedance_async.media import Uploader


@attrs.frozen
class Connection:
    """Where the API is and how often jobs are polled. The key is in the environment alone."""

    screen: Screen
    base_url: str | None = None
    poll_interval: float = 2.8
    verbose: bool = False

    def session(self, **options: Any) -> SeedanceSession:
        """A session with the command's options; see `SeedanceSession` for what it raises."""
        return SeedanceSession(**self.session_options(**options))

    def session_options(self, **options: Any) -> dict[str, Any]:
        """What such a session is made with."""
        if not os.environ.get("SEEDANCE_API_KEY"):
            raise ConfigurationError("no API key: set the environment variable SEEDANCE_API_KEY")
        shared = {"poll": self._polls(), "on_event": self.screen.hear}
        return {"base_url": self.base_url, **shared, **options}

    def uploader(self, bucket: str | None) -> Uploader | None:
        """What uploads media from this machine: to a bucket, or to an emulator on this machine.

        Raises:
            ConfigurationError: the bucket cannot be used.
        """
        if bucket is not None:
            from seedance_async.media import StoreUploader

            return StoreUploader(bucket)
        client = self.offline_session().client
        if not client.allow_local:
            return None
        from seedance_async.media import EmulatorUploader

        return EmulatorUploader(client.base_url)

    def _polls(self) -> LearnedPolls:
        """The SDK's policy, as fast or slow as its first interval is to be."""
        usual, first = LearnedPolls().backoff, self.poll_interval
        longest, floor = first * usual.maximum / usual.initial, min(usual.floor, first)
        return LearnedPolls(
            backoff=attrs.evolve(usual, initial=first, maximum=longest, floor=floor)
        )

    def offline_session(self, uploader: Uploader | None = None) -> SeedanceSession:
        """A session to check requests with: it sends nothing, so it needs no key."""
        key = os.environ.get("SEEDANCE_API_KEY") or "unused"
        return SeedanceSession(api_key=key, base_url=self.base_url, uploader=uploader)


def api_command(work: Callable[..., Awaitable[ExitCode]]) -> Callable[..., ExitCode]:
    """Turn a coroutine that takes a `Connection` into the function of a click command."""

    @click.option(
        "--base-url",
        envvar="SEEDANCE_BASE_URL",
        help="The API's origin.  [default: SEEDANCE_BASE_URL, or the vendor's]",
    )
    @click.option(
        "--poll-interval",
        type=POSITIVE,
        default=2.8,
        show_default=True,
        help="Seconds until a job is first polled. Later intervals grow to 1.75 times that, until"
        " enough similar jobs have ended to foresee an end.",
    )
    @click.option("--verbose", is_flag=True, help="Show the SDK's log on stderr.")
    @functools.wraps(work)
    def run(base_url: str | None, poll_interval: float, verbose: bool, **rest: Any) -> ExitCode:
        screen = Screen()
        connection = Connection(screen, base_url, poll_interval, verbose)
        with screen.logging(verbose):
            return asyncio.run(_cancellable(work(connection, **rest)))

    return run


async def _cancellable(work: Awaitable[ExitCode]) -> ExitCode:
    with cancelled_by_sigterm():
        return await work
