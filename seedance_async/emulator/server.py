"""The server: starts and stops an emulator, and gives access to its parts."""

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

from aiohttp import web

from seedance_async.emulator.accounts import Accounts
from seedance_async.emulator.admin import Admin
from seedance_async.emulator.app import MAX_BODY, Api
from seedance_async.emulator.clock import Changes, Clock, Predicate
from seedance_async.emulator.contract import Contract
from seedance_async.emulator.injection import Faults
from seedance_async.emulator.inputs import Inputs
from seedance_async.emulator.jobs import Jobs
from seedance_async.emulator.ledger import Ledger
from seedance_async.emulator.media import Media
from seedance_async.emulator.media_routes import MediaRoutes
from seedance_async.emulator.model_cards import ModelCards
from seedance_async.emulator.options import EmulatorOptions
from seedance_async.emulator.request_log import MediaRequest, RequestLog
from seedance_async.emulator.state import State
from seedance_async.emulator.webhooks import Delivery, Webhooks

_BACKLOG = 4096
_GRACE = 0.1  # real seconds for handlers to end when the emulator stops


class Emulator:
    """A local Seedance API on a real HTTP server.

    ``async with Emulator(EmulatorOptions(speed=600)) as emulator`` starts and stops it; the records
    can still be read afterwards.
    """

    def __init__(self, options: EmulatorOptions | None = None) -> None:
        self.options = options or EmulatorOptions()
        self._state: State | None = None
        self._media_routes: MediaRoutes | None = None
        self._inputs: Inputs | None = None
        self._exits = AsyncExitStack()

    def __repr__(self) -> str:
        options = f"seed={self.options.seed} speed={self.options.speed:g} gpus={self.options.gpus}"
        if self._state is None:
            return f"<Emulator not started, {options}>"
        return f"<Emulator {self.url} {options}: {self.jobs!r} {self.ledger!r}>"

    async def __aenter__(self) -> "Emulator":
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen. If this fails, everything that was started is stopped again."""
        if self._state is not None:
            raise RuntimeError("an emulator starts only once; create another one")
        async with AsyncExitStack() as exits:
            state = _build(self.options, exits)
            app = web.Application(client_max_size=MAX_BODY)
            self._state, media_routes = state, MediaRoutes(state)
            self._media_routes = media_routes
            folder = exits.enter_context(TemporaryDirectory(prefix="seedance-inputs-"))
            self._inputs = Inputs(state, Path(folder))
            for part in (media_routes, self._inputs, Admin(state, self.stats), Api(state)):
                part.add_routes(app)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=_GRACE)
            exits.push_async_callback(runner.cleanup)
            await runner.setup()
            site = web.TCPSite(runner, self.options.host, self.options.port, backlog=_BACKLOG)
            await site.start()
            state.origin = _origin(runner.addresses[0])
            self._exits = exits.pop_all()

    async def stop(self) -> None:
        """Stop listening, rendering and calling webhooks, and remove the files. Can be repeated."""
        await self._exits.aclose()

    @property
    def _running(self) -> State:
        if self._state is None:
            raise RuntimeError("the emulator has not been started")
        return self._state

    @property
    def url(self) -> str:
        """The base URL, ``http://127.0.0.1:43210``."""
        return self._running.origin

    @property
    def api_key(self) -> str:
        """The key of the first account."""
        return self.options.api_key

    @property
    def uploads(self) -> Counter[str]:
        """How often each input was uploaded, by the hash of its content."""
        return Counter() if self._inputs is None else self._inputs.uploads

    @property
    def accounts(self) -> Accounts:
        """The keys and their balances."""
        return self._running.accounts

    @property
    def ledger(self) -> Ledger:
        """Every submit received, and its outcome."""
        return self._running.ledger

    @property
    def jobs(self) -> Jobs:
        """The jobs by request id; ``active``, ``peak_active``, ``finish(…)``."""
        return self._running.jobs

    @property
    def faults(self) -> Faults:
        """The faults to inject; can be changed at any time."""
        return self._running.faults

    @property
    def requests(self) -> RequestLog:
        """Counts by operation and status, and the recent requests."""
        return self._running.requests

    @property
    def webhooks(self) -> list[Delivery]:
        """Every attempt to deliver a callback, in order."""
        return self._running.webhooks.deliveries

    @property
    def media_requests(self) -> list[MediaRequest]:
        """The recent requests for files, with their headers."""
        return list(self._media_routes.requests) if self._media_routes else []

    def media_url(self, sample: str) -> str:
        """The URL of a sample: ``photo.jpg``, ``last.jpg``, ``clip.mp4``, ``beat.mp3``/``.wav``."""
        return f"{self.url}/media/samples/{sample}"

    async def wait_until(self, predicate: Predicate) -> None:
        """Wait until ``predicate()`` is true. It is evaluated again after every change."""
        await self._running.changes.wait_until(predicate)

    def stats(self) -> dict[str, Any]:
        """Counts and sums, as plain JSON."""
        state = self._running
        by_status: dict[str, dict[str, int]] = {}
        for (operation, status), count in state.requests.by_status.items():
            by_status.setdefault(operation, {})[str(status or "dropped")] = count
        return {
            "seed": state.options.seed,
            "jobs": len(state.jobs),
            "active": state.jobs.active,
            "peak_active": state.jobs.peak_active,
            "peak_processing": state.jobs.peak_processing,
            "by_status": {each: count for each, count in state.jobs.counts.items() if count},
            "requests": by_status,
            "faults": {f"{op} {kind}": n for (op, kind), n in state.requests.by_fault.items()},
            "submits": len(state.ledger),
            "charged": sum(state.ledger.charged_prompts().values()),
            "credits_charged": state.ledger.credits_charged,
            "duplicates": state.ledger.duplicates(),
        }


def _build(options: EmulatorOptions, exits: AsyncExitStack) -> State:
    """The parts of one emulator. Each random part has a generator seeded from the one seed."""
    clock, changes = Clock(options.speed), Changes()
    models = ModelCards(options.models)
    accounts = Accounts()
    accounts.add(options.api_key, options.balance)
    ledger = Ledger(changes, options.ledger_path)
    exits.callback(ledger.close)
    requests = RequestLog(changes)
    faults = Faults(_random(options, "faults"), options.fault_rates())
    secret = _random(options, "media").randbytes(32)
    media = Media(shared=options.media == "shared", ttl=options.media_ttl, secret=secret)
    exits.push_async_callback(media.close)
    webhooks = Webhooks(clock, changes, faults, requests, lambda job: state.status_body(job))
    exits.push_async_callback(webhooks.close)
    jobs = Jobs(
        clock,
        changes,
        _random(options, "jobs"),
        gpus=options.gpus,
        median_seconds=options.median_seconds,
        sigma=options.sigma,
        hold=options.hold,
        on_end=lambda job: state.job_ended(job),
    )
    exits.callback(jobs.close)
    state = State(
        options=options,
        clock=clock,
        changes=changes,
        models=models,
        contract=Contract(options.allow_http, options.unknown_fields, models),
        accounts=accounts,
        ledger=ledger,
        jobs=jobs,
        faults=faults,
        requests=requests,
        media=media,
        webhooks=webhooks,
    )
    return state


def _random(options: EmulatorOptions, purpose: str) -> Random:
    return Random(f"{options.seed} {purpose}")  # noqa: S311 -- reproducible, not secret


def _origin(address: tuple[Any, ...]) -> str:
    host, port = address[0], address[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


Ready = Callable[[Emulator], Awaitable[None] | None]


async def serve(options: EmulatorOptions | None = None, ready: Ready | None = None) -> None:
    """Run an emulator until this coroutine is cancelled.

    Args:
        options: as for ``Emulator``.
        ready: called once the emulator listens, and awaited if it is a coroutine function.
    """
    async with Emulator(options) as emulator:
        awaitable = ready(emulator) if ready else None
        if awaitable is not None:
            await awaitable
        await asyncio.Event().wait()


def run(options: EmulatorOptions | None = None, ready: Ready | None = None) -> None:
    """Run an emulator until Ctrl-C or SIGTERM. Blocks; for a command line."""
    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        asyncio.run(_serve_until_terminated(options, ready))


async def _serve_until_terminated(options: EmulatorOptions | None, ready: Ready | None) -> None:
    task = asyncio.current_task()
    assert task is not None
    with suppress(NotImplementedError):  # Windows has no such handlers
        for number in (signal.SIGINT, signal.SIGTERM):  # replaces earlier handlers
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await serve(options, ready)
