"""The signal handlers."""

import asyncio
import os
import signal

import pytest

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


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is none on Windows")
async def test_a_closed_terminal_stays_ignored_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts(lambda: None, lambda: None).installed():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
