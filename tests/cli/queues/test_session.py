"""What a run is told of jobs that workers make, from what a queue and a journal say."""

import asyncio
import time

import attrs
import pytest

from seedance_async import GenerationRequest, JobState, JournalError
from seedance_async.cli.inputs import Line
from seedance_async.cli.queues import session as session_module
from seedance_async.cli.queues.place import QueuePlace
from seedance_async.cli.queues.session import QueuedSession
from seedance_async.engines import Outcome, RunStatus
from seedance_async.journal import JournalEntry

REQUEST = GenerationRequest("A river")


def entry(key, state, request_id=None, **values):
    now = time.time()
    known = {"created_at": now, "updated_at": now, "credits_charged": 40 if request_id else None}
    return JournalEntry(key, "f", "{}", state=state, request_id=request_id, **{**known, **values})


@attrs.define
class Place:
    """A journal, of which a look shows the next state."""

    looks: list
    asked: list = attrs.field(factory=list)
    fails: int = 0

    async def find(self, keys):
        if not keys:
            return {}
        self.asked.append(set(keys))
        if self.fails:
            self.fails -= 1
            raise JournalError("away", path="x")
        known = self.looks.pop(0) if self.looks else []
        return {each.key: each for each in known if each.key in keys}


@attrs.define
class Queue:
    """A queue, of which each look tells something."""

    looks: list

    async def follow(self, *, run):
        for outcomes, status in self.looks:
            yield outcomes, status


class Watched:
    """A session with what it has emitted."""

    def __init__(self, place, queue, sent_before=()):
        self.events, self.idle = [], 0
        self.session = QueuedSession(
            place, queue, "videos", base_url="http://x", on_event=self.events.append,
            on_idle=self._idle,
        )  # fmt: skip
        self.session.sent_before = {each.key: each for each in sent_before}

    def _idle(self):
        self.idle += 1

    async def follow(self, *keys):
        lines = iter([Line(n, REQUEST, key) for n, key in enumerate(keys, 1)])
        return {line.key: job async for line, job in self.session.follow(lines)}

    @property
    def told(self):
        return [(type(event).__name__, event.key) for event in self.events]


def making(*keys, waiting=0):
    return RunStatus(running=len(keys), waiting=waiting, making=keys)


async def test_a_job_is_followed_from_its_submit_to_its_video():
    done = Outcome("a", "succeeded", "req_1", 40, "/videos/a.mp4", "ab", sent=True)
    place = Place([
        [entry("a", "submitting")],
        [entry("a", "queued", "req_1", updated_at=time.time() - 30)],
        [entry("a", "succeeded", "req_1", path="/videos/a.mp4", size=7, sha256="ab")],
    ])  # fmt: skip
    queue = Queue([([], making("a"))] * 2 + [([], making("a")), ([done], RunStatus())])
    watched = Watched(place, queue)
    jobs = await watched.follow("a")
    assert watched.told == [
        ("JobSubmitted", "a"), ("JobAccepted", "a"), ("JobSucceeded", "a"), ("VideoSaved", "a"),
    ]  # fmt: skip
    assert 29 <= watched.events[1].seconds <= 40
    assert (jobs["a"].saved.size, jobs["a"].credits_charged) == (7, 40)
    assert watched.session.stats().credits_charged == 40
    assert place.asked == [{"a"}, {"a"}, {"a"}]  # and not while it runs, when nothing can change
    assert (await watched.session.recorded("a")).size == 7
    assert len(place.asked) == 3


async def test_a_job_of_an_earlier_run_is_not_charged_or_told_as_saved_again():
    before = entry("a", "succeeded", "req_1", path="/videos/a.mp4", size=7, sha256="ab")
    done = Outcome("a", "succeeded", "req_1", 40, "/videos/a.mp4", "ab", sent=True)
    watched = Watched(Place([[before]]), Queue([([done], RunStatus())]), [before])
    await watched.follow("a")
    assert watched.told == [("JobResumed", "a"), ("JobSucceeded", "a")]
    assert watched.session.stats().credits_charged == 0


@pytest.mark.parametrize(
    ("outcome", "known", "state", "error"),
    [
        (("failed", "req_1", "no"), ("failed", "req_1"), "failed", "GenerationFailedError"),
        (("cancelled", "req_1", None), ("cancelled", "req_1"), "cancelled",
         "GenerationCancelledError"),
        (("cancelled", None, None), None, "rejected", "StoppedRunError"),
        (("rejected", None, "bad"), ("rejected", None), "rejected", "TaskError"),
        (("uncertain", None, "reset"), ("uncertain", None), "uncertain", "SubmitUncertainError"),
        (("abandoned", "req_1", "late"), ("abandoned", "req_1"), "abandoned", "JobTimeoutError"),
        (("abandoned", None, "the queue ended it"), None, "rejected", "TaskError"),
    ],
)  # fmt: skip
async def test_each_outcome_is_a_state_and_an_error(outcome, known, state, error):
    name, request_id, why = outcome
    told = Outcome("a", name, request_id, error=why, sent=known is not None)
    found = [] if known is None else [[entry("a", *known)]]
    jobs = await Watched(Place(found), Queue([([told], RunStatus())])).follow("a")
    assert (jobs["a"].state, type(jobs["a"].error).__name__) == (state, error)
    assert why is None or why in str(jobs["a"].error)


async def test_what_somebody_hands_out_again_is_told_as_it_ended_first():
    first, later = Outcome("a", "rejected", error="no"), Outcome("a", "cancelled", error="late")
    last = Outcome("b", "rejected", error="no")
    looks = [([each], RunStatus()) for each in (first, later, last)]
    jobs = await Watched(Place([]), Queue(looks)).follow("a", "b")
    assert [str(jobs[key].error) for key in "ab"] == ["no", "no"]


async def test_a_limit_of_workers_is_told_as_one():
    told = Outcome("a", "rejected", error="spent", error_type="BudgetExceededError")
    jobs = await Watched(Place([]), Queue([([told], RunStatus())])).follow("a")
    assert type(jobs["a"].error).__name__ == "LimitReachedError"


async def test_others_of_the_run_are_not_told_and_the_last_line_ends_it():
    other = Outcome("b", "succeeded", "req_2", file="/b", sent=True)
    mine = Outcome("a", "rejected", error="bad")
    queue = Queue([([other], making("c")), ([mine], making("c")), ([], making("c"))])
    watched = Watched(Place([]), queue)
    assert list(await watched.follow("a")) == ["a"]
    assert watched.told == [("JobRejected", "a")]


@pytest.mark.virtual_time
async def test_no_worker_is_said_once_and_what_it_keeps_waiting_is_seen():
    class Slow(Queue):
        async def follow(self, *, run):
            for _ in range(20):
                yield [], RunStatus(waiting=1)
                await asyncio.sleep(1)
            assert watched.session.stats().waiting == {"worker": pytest.approx(20)}
            yield [], making("a")
            assert watched.session.stats().waiting == {}
            yield [Outcome("a", "rejected", error="bad")], RunStatus()

    watched = Watched(Place([]), Slow([]))
    await watched.follow("a")
    assert watched.idle == 1


@pytest.mark.virtual_time
async def test_a_journal_that_is_away_is_waited_for(monkeypatch):
    done = Outcome("a", "failed", "req_1", error="no", sent=True)
    place = Place([[entry("a", "failed", "req_1")]], fails=20)
    jobs = await Watched(place, Queue([([done], RunStatus())])).follow("a")
    assert jobs["a"].state is JobState.FAILED
    monkeypatch.setattr(session_module, "AWAY", 10.0)
    with pytest.raises(JournalError):
        await Watched(Place([], fails=99), Queue([([done], RunStatus())])).follow("a")


async def test_who_leaves_says_what_was_sent_meanwhile():
    place = Place([[entry("a", "queued", "req_1")]])
    watched = Watched(place, Queue([([], RunStatus(waiting=2))]))
    async with watched.session:
        await watched.follow("a", "b")
    states = {each.key: each.state for each in watched.session.registry}
    assert states == {"a": "queued", "b": "pending"}


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db"),
        ("postgresql://u:secret@host:5432/db", "postgresql://u@host:5432/db"),
        ("postgresql://host/db", "postgresql://host/db"),
        ("postgres://u:secret@h1:1,h2:2/db?a=b&password=secret", "postgres://u@h1:1,h2:2/db?a=b"),
    ],
)
def test_a_url_is_shown_without_its_password(url, shown):
    assert (QueuePlace(url).shown, "secret" in repr(QueuePlace(url))) == (shown, False)
