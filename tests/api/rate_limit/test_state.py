"""What a gate tells of itself: once for each change, and not for every refusal."""

import asyncio
import logging
import random

import pytest

from seedance_async import Backoff, GenerationRequest, LimitsChanged
from seedance_async.api.rate_limit import Gate, GateState
from tests.support.fakes import error_reply
from tests.support.for_each import for_each
from tests.support.through import through

REQUEST = GenerationRequest("a river", duration=5)


@for_each(
    ("state", "told", "differs"),
    [
        (GateState(held_for=4.0), GateState(), False),
        (GateState(held_for=30.0), GateState(), True),
        (GateState(held_for=30.0), GateState(held_for=10.0), False),
        (GateState(), GateState(held_for=10.0), True),
        (GateState(rate=5.0), GateState(), True),
        (GateState(rate=5.0), GateState(rate=4.0), False),
        (GateState(rate=5.0), GateState(rate=10.0), True),
        (GateState(), GateState(limit=7), True),
        (GateState(limit=11), GateState(limit=7), True),
        (GateState(noise=0.01), GateState(), False),
        (GateState(noise=0.3), GateState(), True),
    ],
)
def test_only_a_change_worth_telling_is_told(state, told, differs):
    assert state.differs(told) is differs


@pytest.mark.virtual_time
async def test_a_hold_is_told_when_it_begins_and_when_it_is_over():
    gate, told = Gate(4, Backoff(jitter=0.0), random.Random(1)), []
    gate.on_change = told.append
    for _ in range(3):
        async with through(gate):
            gate.refused(60.0)
    async with through(gate):
        gate.passed()
    assert [state.held_for for state in told] == [60.0, 0.0]


@pytest.mark.virtual_time
async def test_a_long_hold_of_submits_is_an_event_is_logged_and_is_in_the_stats(
    make_session, api, caplog
):
    caplog.set_level(logging.INFO)
    heard = []
    api.script["create"].append(error_reply(429, retry_after="60"))
    async with make_session(on_event=heard.append) as session:
        making = asyncio.ensure_future(session.generate(REQUEST))
        await asyncio.sleep(20)
        assert session.stats().submit_hold == pytest.approx(40, abs=1)
        await making
        assert session.stats().submit_hold == 0
    changes = [event for event in heard if type(event) is LimitsChanged]
    assert [(event.operation, round(event.held_for)) for event in changes] == [
        ("submit", 60), ("submit", 0),
    ]  # fmt: skip
    assert sum("for each submit: held for 60 s" in line for line in caplog.messages) == 1
    assert sum("for each submit: open" in line for line in caplog.messages) == 1
