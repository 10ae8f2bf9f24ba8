"""What is out and when its time is up, on virtual time."""

import asyncio
from contextvars import ContextVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_async.api.transport.deadlines import Deadlines
from tests.support.virtual_time import VirtualTimeLoop

pytestmark = pytest.mark.virtual_time

SECONDS = 30.0
SENDER = ContextVar("SENDER", default="nobody")


class Call:
    """What is out: when and with what it was ended."""

    def __init__(self):
        self.ends = []
        self.error = self.ended_by = None

    def end(self, error):
        self.error, self.ended_by = error, SENDER.get()
        self.ends.append((asyncio.get_running_loop().time(), type(error)))


@given(
    st.lists(
        st.tuples(
            st.floats(0, 20),  # seconds after the one before
            # seconds until it is answered: in time, at the last moment, or too late
            st.none() | st.floats(0, SECONDS) | st.floats(SECONDS + 1e-6, 2 * SECONDS),
        ),
        max_size=20,
    )
)
def test_each_is_ended_when_its_time_is_up_unless_it_was_answered(plan):
    async def run():
        loop, deadlines = asyncio.get_running_loop(), Deadlines(SECONDS)
        expected, calls = [], []
        for pause, answered in plan:
            await asyncio.sleep(pause)
            calls.append(Call())
            deadlines.add(calls[-1])
            if answered is not None:
                loop.call_later(answered, deadlines.discard, calls[-1])
            in_time = answered is not None and answered <= SECONDS
            expected.append([] if in_time else [loop.time() + SECONDS])
        await asyncio.sleep(3 * SECONDS)
        for call, due in zip(calls, expected, strict=True):
            assert [at for at, _ in call.ends] == pytest.approx(due)
            assert {error for _, error in call.ends} <= {TimeoutError}

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())


async def test_one_timer_watches_all():
    loop, deadlines = asyncio.get_running_loop(), Deadlines(SECONDS)
    for _ in range(1000):
        call = Call()
        deadlines.add(call)
        deadlines.discard(call)
        deadlines.add(Call())
    assert len(loop._scheduled) == 1
    deadlines.end_all(OSError("closed"))


async def test_all_can_be_ended_at_once_and_are_ended_once():
    deadlines, calls = Deadlines(SECONDS), [Call() for _ in range(3)]
    for call in calls:
        deadlines.add(call)
    began = asyncio.get_running_loop().time()
    deadlines.end_all(OSError("closed"))
    await asyncio.sleep(2 * SECONDS)
    assert [call.ends for call in calls] == [[(began, OSError)]] * 3
    assert len({id(call.error) for call in calls}) == 3, "each has a traceback of its own"


async def test_it_goes_on_after_all_were_ended():
    deadlines, call = Deadlines(SECONDS), Call()
    deadlines.add(Call())
    deadlines.end_all(OSError("closed"))
    deadlines.add(call)
    await asyncio.sleep(2 * SECONDS)
    assert [error for _, error in call.ends] == [TimeoutError]


async def test_nobodys_context_is_kept_alive():
    deadlines, calls = Deadlines(SECONDS), [Call(), Call()]
    SENDER.set("a web request")
    deadlines.add(calls[0])
    await asyncio.sleep(SECONDS / 2)
    deadlines.add(calls[1])
    await asyncio.sleep(2 * SECONDS)
    assert [call.ended_by for call in calls] == ["nobody"] * 2


async def test_the_others_are_ended_whatever_one_makes_of_it():
    class Broken(Call):
        def end(self, error):
            raise RuntimeError("broken")

    told, loop = [], asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    deadlines, call = Deadlines(SECONDS), Call()
    deadlines.add(Broken())
    deadlines.add(call)
    await asyncio.sleep(2 * SECONDS)
    assert len(call.ends) == len(told) == 1
