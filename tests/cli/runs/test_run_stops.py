"""What stops the submitting of a run: every line has its outcome, and nothing is raised."""

import pytest

from seedance_async import GenerationRequest
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.next_steps import NextSteps
from seedance_async.cli.runs.run import Run
from tests.support.fakes import LOST, NOT_SENT, error_reply

pytestmark = pytest.mark.virtual_time


async def states_of(session, count):
    """The states of the outcomes of a run of this many lines."""
    outcomes = []
    lines = [Line(n, GenerationRequest(f"prompt {n}")) for n in range(count)]
    run = Run(session, lines, outcomes.append, target=None, next_steps=NextSteps())
    await run.complete(on_stop=lambda _: None, on_leave=lambda _: None)
    return sorted(outcome.state for outcome in outcomes)


@pytest.mark.parametrize(
    ("answer", "first"),
    [
        (NOT_SENT, "not_submitted"),
        (error_reply(402), "rejected"),
        (LOST, "uncertain"),
    ],
    ids=["unreachable", "no credits", "uncertain"],
)
async def test_a_failure_that_concerns_every_submit_stops_the_run(make_session, api, answer, first):
    api.script["create"] += [answer] * 1000
    session = make_session(max_connections=1, max_uncertain_in_a_row=1)
    assert await states_of(session, 30) == sorted([first] + ["not_submitted"] * 29)
