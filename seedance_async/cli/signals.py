"""Ctrl-C: the first asks a run to stop, the second makes it leave. Owns the signal handlers.

A terminal that is closed (SIGHUP) counts as a Ctrl-C, and nothing is written to it any more.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """How the task that installs this handles SIGINT, SIGTERM and SIGHUP.

    Args:
        on_stop: called at the first signal.
        on_leave: called at the second; the task is cancelled soon after. Later signals do nothing.
    """

    def __init__(self, on_stop: Callable[[], None], on_leave: Callable[[], None]) -> None:
        self._on_stop, self._on_leave = on_stop, on_leave
        self._task: asyncio.Task[object] | None = None
        self.stopping = self.leaving = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals while the block runs, in the current task."""
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        undo = [_handle(loop, number, self.receive) for number in SIGNALS]
        hangup = getattr(signal, "SIGHUP", None)  # there is none on Windows
        if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:  # nohup ignores
            terminals = [number for number in range(3) if os.isatty(number)]
            undo.append(_handle(loop, hangup, partial(self._hang_up, terminals)))
        try:
            yield
        finally:
            for each in undo:
                each()

    def receive(self) -> None:
        """Handle one signal."""
        if not self.stopping:
            self.stopping = True
            self._on_stop()
        elif not self.leaving:
            self.leaving = True
            self._on_leave()
            # Two turns of the loop later, so that the task first takes an outcome that is about to
            # reach it.
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._cancel)

    def _hang_up(self, terminals: Iterable[int]) -> None:
        """The terminal is gone; each write to it would fail, and end the run."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in terminals:
            os.dup2(nowhere, number)
        os.close(nowhere)
        self.receive()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


@contextmanager
def cancelled_by_sigterm() -> Iterator[None]:
    """SIGTERM cancels the current task, as Ctrl-C does in asyncio, so that files are cleaned up."""
    task = asyncio.current_task()
    assert task is not None
    undo = _handle(asyncio.get_running_loop(), signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        undo()


def _handle(
    loop: asyncio.AbstractEventLoop, number: signal.Signals, receive: Callable[[], object]
) -> Callable[[], object]:
    """Call `receive` in the loop at a signal; returns a function that undoes this."""
    try:
        loop.add_signal_handler(number, receive)
    except NotImplementedError:  # Windows

        def pass_on(_number: int, _frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(receive)

        before = signal.signal(number, pass_on)
        return lambda: signal.signal(number, before)
    return lambda: loop.remove_signal_handler(number)
