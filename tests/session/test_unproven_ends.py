"""Submits that end in a way that proves nothing stay in doubt; only proof sets one free again."""

import asyncio

import pytest

from seedance_async import GenerationRequest, JournalError, SubmitUncertainError
from tests.support.fakes import FakeAPI, accepted, error_reply
from tests.support.memory_journal import MemoryJournal

pytestmark = pytest.mark.virtual_time

REQUEST = GenerationRequest("a river in autumn", duration=4)


@pytest.fixture
def api():
    return FakeAPI()


class Exiting(FakeAPI):
    """Its answer does not come: a signal handler exits the program instead."""

    def __init__(self, error, *, sent=True):
        super().__init__()
        self.error, self.accepted = error, sent

    async def send(self, request, *, on_sent=None):
        if self.accepted:
            on_sent()
            self.create(request)
        raise self.error


class Silent(FakeAPI):
    """A transport of somebody's own that never calls `on_sent`."""

    reports_sending = False

    async def send(self, request, *, on_sent=None):
        return await super().send(request, on_sent=None)


def states(journal):
    return [entry.state for entry in journal.recorded.values()]


@pytest.mark.parametrize("error", [RuntimeError("a bug"), MemoryError(), ValueError("odd")])
async def test_an_unknown_failure_after_the_first_byte_is_uncertain_on_record(make_session, error):
    journal = MemoryJournal()
    async with make_session(transport=Exiting(error), journal=journal) as session:
        with pytest.raises(SubmitUncertainError):
            await session.submit(REQUEST)
        assert states(journal) == ["uncertain"]


async def test_an_unknown_failure_before_the_first_byte_sets_the_submit_free(make_session):
    journal = MemoryJournal()
    transport = Exiting(RuntimeError("a bug"), sent=False)
    async with make_session(transport=transport, journal=journal) as session:
        with pytest.raises(RuntimeError, match="a bug"):
            await session.submit(REQUEST)
        await asyncio.sleep(0)
        assert states(journal) == ["rejected"]


@pytest.mark.parametrize("how", ["exit", "close"])
async def test_a_submit_that_is_broken_off_by_an_exit_or_a_closed_loop_is_uncertain(
    make_session, api, how
):
    """As where a handler of SIGTERM calls `sys.exit`, or the loop is closed in the middle."""
    journal, answered = MemoryJournal(), asyncio.Event()

    async def answer(request):
        await answered.wait()

    api.script["create"] += [answer]
    async with make_session(transport=api, journal=journal) as session:
        submitting = session.submit(REQUEST)
        waiting = submitting.send(None)
        while api.count("create") == 0:
            waiting._asyncio_future_blocking = False
            await asyncio.sleep(0)
            if waiting.done():
                waiting = submitting.send(None)
        if how == "exit":
            with pytest.raises(SystemExit):
                submitting.throw(SystemExit(1))
        submitting.close()
        assert states(journal) == ["uncertain"]
        answered.set()


async def test_a_transport_that_never_says_what_it_sent_proves_nothing(make_session):
    journal, transport = MemoryJournal(), Silent()
    transport.script["create"] += [TimeoutError("its own timeout")]
    async with make_session(transport=transport, journal=journal) as session:
        with pytest.raises(SubmitUncertainError, match="its own timeout"):
            await session.submit(REQUEST)
        assert states(journal) == ["uncertain"]


async def test_a_submit_that_waits_at_the_gate_is_no_intent(make_session, api):
    """A process killed meanwhile leaves nothing in doubt: nothing was sent for it."""
    journal = MemoryJournal()
    api.script["create"] += [error_reply(429, retry_after="60")]
    async with make_session(transport=api, journal=journal) as session:
        first = asyncio.ensure_future(session.submit(REQUEST))
        await asyncio.sleep(1)
        second = asyncio.ensure_future(session.submit(GenerationRequest("another")))
        await asyncio.sleep(30)
        assert states(journal) == ["rejected"]
        await asyncio.gather(first, second)
        assert all(entry.request_id for entry in journal.recorded.values())
    assert api.prompts == {REQUEST.prompt: 2, "another": 1}


class FullAtFirst(MemoryJournal):
    """There is no room for the first acceptance."""

    full = True

    async def record(self, attempt, **changes):
        if self.full and changes["state"] == "queued":
            self.full = False
            raise JournalError("the disk is full", request_id=changes["request_id"])
        await super().record(attempt, **changes)


async def test_the_id_of_a_job_that_is_not_on_record_is_not_recorded_as_that_of_another(
    make_session, api
):
    """A server that answers with it must not make the next run follow the wrong job."""
    journal = FullAtFirst()
    api.script["create"] += [accepted("req_1"), accepted("req_1")]
    api.jobs["req_1"] = 0.0
    async with make_session(transport=api, journal=journal) as session:
        with pytest.raises(JournalError, match="the disk is full"):
            await session.submit(REQUEST, key="first")
        with pytest.raises(SubmitUncertainError, match="'req_1' belongs to"):
            await session.submit(REQUEST, key="second")
        assert journal.recorded["second"].request_id is None
        (first,) = (job for job in session.jobs() if job.key == "first")
        await first
    assert (journal.recorded["first"].state, journal.recorded["first"].request_id) == (
        "succeeded",
        "req_1",
    )
