"""A pytest plugin: a local Seedance API for the tests of an application that uses the SDK.

Enable it in a `conftest.py` with `pytest_plugins = ["seedance_async.testing"]`; it needs the extra
`emulator`. The emulator runs in a thread and an event loop of its own, so the fixture works in
plain and in async tests.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from seedance_async.emulator import Emulator


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin's marker."""
    config.addinivalue_line(
        "markers", "seedance_emulator(**options): options of the emulator that the fixture starts"
    )


@pytest.fixture
def seedance_emulator(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Emulator]:
    """A running emulator, at 600 times the real speed, with one small video for all jobs.

    SEEDANCE_BASE_URL and SEEDANCE_API_KEY are set, so that `SeedanceSession()` uses it. The marker
    `seedance_emulator(speed=…, submit_faults={…}, …)` sets its options.
    """
    from seedance_async.emulator import Emulator, EmulatorOptions

    marker = request.node.get_closest_marker("seedance_emulator")
    options: dict[str, Any] = {"speed": 600.0, "media": "shared"}
    emulator = Emulator(EmulatorOptions(**(options | (marker.kwargs if marker else {}))))
    with _in_thread(emulator):
        monkeypatch.setenv("SEEDANCE_BASE_URL", emulator.url)
        monkeypatch.setenv("SEEDANCE_API_KEY", emulator.api_key)
        yield emulator


class _in_thread:  # noqa: N801 - used as a statement
    """An async context manager entered in a thread with an event loop of its own."""

    def __init__(self, manager: Emulator) -> None:
        self._manager = manager
        self._started: threading.Event = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="seedance-emulator", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            raise self._error

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._manager:
            self._started.set()
            await self._stop.wait()
