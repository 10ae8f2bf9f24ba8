"""The signal handlers."""

import asyncio
import os
import signal

from seedance_async.cli.signals import SIGNALS, Interrupts


async def test_a_third_signal_changes_nothing():
    calls = []
    interrupts = Interrupts(lambda: calls.append("stop"), lambda: calls.append("leave"))
    for _ in range(3):
        interrupts.receive()
    assert calls == ["stop", "leave"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_without_signal_handlers_of_the_loop_the_interpreters_are_used(monkeypatch):
    """As on Windows."""

    def missing(*args):
        raise NotImplementedError

    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    monkeypatch.setattr(loop, "add_signal_handler", missing)
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupts(stopped.set, lambda: None).installed():
        os.kill(os.getpid(), signal.SIGINT)
        async with asyncio.timeout(5):
            await stopped.wait()
    assert [signal.getsignal(number) for number in SIGNALS] == before
