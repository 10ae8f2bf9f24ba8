"""The task registry: every step of a job's life, and counters that are always a recount."""

from functools import partial
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from seedance_async import Generation, GenerationRequest, GenerationStatus, JobState, Submission
from seedance_async.api.errors import SeedanceError
from seedance_async.jobs.registry import TaskRegistry
from seedance_async.jobs.state import TRANSITIONS
from tests.support.for_each import for_each

REQUEST = GenerationRequest("a river")
QUEUED, PROCESSING = JobState.QUEUED, JobState.PROCESSING
DOUBT = SeedanceError("nobody knows")
ENDED = {s for s in JobState if s.is_final} - {JobState.UNCERTAIN}


def submission(request_id="req_1", charged=40, status="queued"):
    return Submission(request_id, GenerationStatus(status), charged)


def told(status, request_id="req_1"):
    return Generation(request_id, GenerationStatus(status))


@pytest.fixture
def registry():
    return TaskRegistry()


def job_in(registry, state, key="key", request_id="req_1"):
    """A job in this state."""
    record = registry.add(key, REQUEST)
    if state is JobState.PENDING:
        return record
    registry.move(record, JobState.SUBMITTING)
    if state is JobState.SUBMITTING:
        return record
    if state in (JobState.REJECTED, JobState.UNCERTAIN):
        registry.move(record, state)
        return record
    registry.accept(record, submission(request_id))
    if state is not QUEUED:
        registry.move(record, state)
    return record


@pytest.fixture
def job(registry):
    return partial(job_in, registry)


def picture(registry, record):
    """All that an illegal step must leave as it was."""
    return (
        registry.counts,
        registry.live,
        registry.credits_charged,
        registry.credits_unknown,
        {known.key for known in registry},
        registry.find(request_id="req_1"),
        registry.find(request_id="req_2"),
        (record.state, record.request_id, record.credits_charged, record.error),
    )


# --- the table ----------------------------------------------------------------------------------


def test_the_table_has_a_row_for_every_state_and_ends_are_ends():
    assert set(TRANSITIONS) == set(JobState)
    assert {state for state, to in TRANSITIONS.items() if not to} == ENDED


def test_every_state_can_be_reached_and_none_leads_back_to_pending():
    reached = set().union(*TRANSITIONS.values())
    assert reached == set(JobState) - {JobState.PENDING}


def test_the_only_way_out_of_a_final_state_is_from_uncertain_to_running():
    assert TRANSITIONS[JobState.UNCERTAIN] == {QUEUED, PROCESSING}


def test_final_and_running_states_are_distinguished():
    assert {s for s in JobState if s.is_running} == {QUEUED, PROCESSING}
    assert {s for s in JobState if not s.is_final} == {
        JobState.PENDING,
        JobState.SUBMITTING,
        QUEUED,
        PROCESSING,
    }


@for_each("start", JobState)
def test_a_step_is_taken_if_the_table_has_it_and_else_changes_nothing(start):
    for to in JobState:
        registry = TaskRegistry()
        record = job_in(registry, start)
        if to in TRANSITIONS[start]:
            registry.move(record, to)
            assert record.state is to
            assert registry.counts[to] == 1
            assert sum(registry.counts.values()) == 1
            continue
        before = picture(registry, record)
        with pytest.raises(RuntimeError, match=f"cannot go from {start} to {to}"):
            registry.move(record, to)
        assert picture(registry, record) == before


# --- acceptance ---------------------------------------------------------------------------------


@pytest.mark.parametrize("start", sorted(set(JobState) - {JobState.SUBMITTING, JobState.UNCERTAIN}))
def test_a_job_that_cannot_be_accepted_now_claims_no_id_and_counts_no_charge(registry, job, start):
    record = job(start)
    before = picture(registry, record)
    with pytest.raises(RuntimeError, match=r"cannot go|not in this registry"):
        registry.accept(record, submission("req_2", 40))
    assert picture(registry, record) == before


@pytest.mark.parametrize(
    "start", sorted(set(JobState) - {JobState.PENDING, JobState.SUBMITTING, JobState.UNCERTAIN})
)
def test_a_job_that_cannot_be_resumed_now_claims_no_id(registry, job, start):
    record = job(start)
    before = picture(registry, record)
    with pytest.raises(RuntimeError, match=r"cannot go|not in this registry"):
        registry.resume(record, "req_2")
    assert picture(registry, record) == before


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("queued", QUEUED),
        ("processing", PROCESSING),
        ("succeeded", QUEUED),  # the end and its output come with a query
        ("failed", QUEUED),
        ("moderating", QUEUED),
    ],
)
def test_an_accepted_job_runs_whatever_the_answer_says_of_its_status(registry, job, status, state):
    record = job(JobState.SUBMITTING)
    registry.accept(record, submission(status=status))
    assert record.state is state
    assert registry.find(request_id="req_1") is record


def test_charges_are_summed_and_unknown_ones_counted(registry, job):
    for number, charged in enumerate([40, 0, None, 64, None]):
        record = job(JobState.SUBMITTING, key=f"key {number}")
        registry.accept(record, submission(f"req_{number}", charged))
        assert record.credits_charged == charged
    assert (registry.credits_charged, registry.credits_unknown) == (104, 2)


def test_an_id_that_belongs_to_another_job_is_refused_and_changes_nothing(registry, job):
    holder = job(QUEUED, key="holder")
    for record, step in (
        (job(JobState.SUBMITTING, "a"), lambda r: registry.accept(r, submission("req_1"))),
        (job(JobState.UNCERTAIN, "b"), lambda r: registry.resume(r, "req_1")),
        (job(JobState.PENDING, "c"), lambda r: registry.resume(r, "req_1")),
    ):
        before = picture(registry, record)
        with pytest.raises(ValueError, match="'req_1' belongs to job holder"):
            step(record)
        assert picture(registry, record) == before
    assert registry.find(request_id="req_1") is holder


def test_the_id_of_an_ended_job_is_free_again(registry, job):
    job(JobState.SUCCEEDED)
    record = registry.add("again", None)
    registry.resume(record, "req_1")
    assert registry.find(request_id="req_1") is record


def test_the_id_of_an_ended_job_is_not_taken_for_that_of_a_new_submit(registry, job):
    """A server that repeats an id tells of the old job; the new one is not known by it."""
    job(JobState.SUCCEEDED)
    record = job(JobState.SUBMITTING, "again")
    before = picture(registry, record)
    with pytest.raises(ValueError, match="'req_1' belongs to an ended job"):
        registry.accept(record, submission("req_1"))
    assert picture(registry, record) == before


def test_only_so_many_ids_of_ended_jobs_are_remembered(registry, job, monkeypatch):
    monkeypatch.setattr("seedance_async.jobs.registry.REMEMBERED_IDS", 2)
    for number in range(3):
        job(JobState.FAILED, f"key {number}", f"req_{number}")
    with pytest.raises(ValueError, match="ended job"):
        job(QUEUED, "again", "req_1")
    assert job(QUEUED, "oldest", "req_0").state is QUEUED


def test_an_uncertain_job_stays_until_its_id_is_learned(registry, job):
    record = job(JobState.UNCERTAIN)
    assert record.state.is_final
    assert registry.live == 0
    assert list(registry) == [record]
    registry.resume(record, "req_1")
    assert record.state is QUEUED
    assert registry.live == 1
    assert registry.find(key="key") is registry.find(request_id="req_1") is record


def test_what_an_uncertain_job_cost_is_unknown_once_it_is_known_to_be_accepted(registry, job):
    registry.resume(job(JobState.UNCERTAIN), "req_1")
    assert (registry.credits_charged, registry.credits_unknown) == (0, 1)


def test_a_job_attached_from_elsewhere_was_not_charged_here(registry):
    registry.resume(registry.add("attached", None), "req_1")
    assert (registry.credits_charged, registry.credits_unknown) == (0, 0)


def test_an_uncertain_job_whose_answer_came_late_is_accepted_with_its_charge(registry, job):
    record = job(JobState.UNCERTAIN)
    registry.accept(record, submission(charged=64))
    assert (record.state, registry.credits_charged) == (QUEUED, 64)


def test_an_uncertain_job_alone_lets_go_of_its_key(registry, job):
    record = job(JobState.UNCERTAIN)
    registry.release(record)
    assert (registry.find(key="key"), list(registry)) == (None, [])
    assert registry.counts[JobState.UNCERTAIN] == 0
    with pytest.raises(RuntimeError, match="not in this registry"):
        registry.release(record)
    other = job(QUEUED)
    with pytest.raises(RuntimeError, match="is queued, not uncertain"):
        registry.release(other)
    assert registry.find(key="key") is other


# --- adding, finding, forgetting ----------------------------------------------------------------


@pytest.mark.parametrize("charged", [40, None])
def test_a_job_whose_id_is_that_of_another_is_uncertain_and_has_no_id(registry, job, charged):
    record = job(JobState.SUBMITTING)
    registry.accept(record, submission("req_1", charged))
    registry.move(record, JobState.UNCERTAIN, error=DOUBT)
    assert (record.state, str(record.error)) == (JobState.UNCERTAIN, str(DOUBT))
    assert registry.find(request_id="req_1") is None
    assert (record.request_id, record.credits_charged, record.accepted_at) == (None, None, None)
    assert registry.credits_charged == (charged or 0), "which the server has reported"
    assert registry.find(key=record.key) is record, "its id may be learned yet"


def test_a_key_in_use_is_refused_and_that_of_an_ended_job_is_not(registry, job):
    first = job(QUEUED)
    with pytest.raises(ValueError, match="'key' belongs to a job that has not ended"):
        registry.add("key", REQUEST)
    assert registry.counts[JobState.PENDING] == 0
    registry.move(first, JobState.FAILED)
    assert registry.find(key="key") is None
    assert registry.add("key", REQUEST) is registry.find(key="key")


def test_nothing_is_found_by_nothing(registry, job):
    job(QUEUED)
    assert registry.find() is None
    assert registry.find(key="other") is None
    assert registry.find(request_id="other") is None


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.SUBMITTING])
def test_a_discarded_job_leaves_nothing_behind(registry, job, state):
    record = job(state)
    registry.discard(record)
    assert sum(registry.counts.values()) == len(registry) == registry.live == 0
    assert registry.find(key="key") is None
    assert repr(registry) == "<TaskRegistry empty>"
    registry.add("key", REQUEST)


@pytest.mark.parametrize("state", sorted(set(JobState) - {JobState.PENDING, JobState.SUBMITTING}))
def test_a_job_that_may_be_charged_or_has_ended_cannot_be_discarded(registry, job, state):
    record = job(state)
    before = picture(registry, record)
    with pytest.raises(RuntimeError, match="must not be forgotten"):
        registry.discard(record)
    assert picture(registry, record) == before


def test_a_job_that_is_not_in_the_tables_moves_no_counter(registry, job):
    record = job(JobState.PENDING)
    registry.discard(record)
    other = job(JobState.PENDING)  # under the same key
    before = picture(registry, other)
    for step in (
        registry.discard,
        lambda r: registry.move(r, JobState.SUBMITTING),
    ):
        with pytest.raises(RuntimeError, match="not in this registry"):
            step(record)
    with pytest.raises(RuntimeError, match="not in this registry"):
        TaskRegistry().move(other, JobState.SUBMITTING)
    assert picture(registry, other) == before


def test_the_counts_that_are_handed_out_are_a_copy(registry, job):
    job(QUEUED)
    registry.counts[QUEUED] = 99
    assert registry.counts[QUEUED] == 1


def test_jobs_can_end_while_one_iterates(registry, job):
    for number in range(3):
        job(QUEUED, f"key {number}", f"req_{number}")
    for record in registry:
        registry.move(record, JobState.FAILED)
    assert len(registry) == 0


def test_the_repr_reports_how_many_jobs_are_in_each_state(registry, job):
    job(QUEUED, "a")
    job(JobState.UNCERTAIN, "b")
    assert repr(registry) == "<TaskRegistry queued=1, uncertain=1>"


# --- what the server says -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "status", "after"),
    [
        (QUEUED, "queued", QUEUED),
        (QUEUED, "processing", PROCESSING),
        (QUEUED, "succeeded", JobState.SUCCEEDED),
        (QUEUED, "moderating", QUEUED),
        (PROCESSING, "queued", PROCESSING),
        (PROCESSING, "failed", JobState.FAILED),
        (PROCESSING, "cancelled", JobState.CANCELLED),
        (PROCESSING, "moderating", PROCESSING),
    ],
)
def test_a_running_job_follows_the_server_but_never_back(registry, job, state, status, after):
    record = job(state)
    generation = told(status)
    assert registry.observe(record, generation) is (after is not state)
    assert record.state is after
    assert record.generation is generation


@pytest.mark.parametrize("state", [s for s in JobState if s.is_final])
def test_nothing_that_the_server_says_moves_a_final_job(registry, job, state):
    record = job(state)
    before = picture(registry, record)
    for status in GenerationStatus:
        assert not registry.observe(record, told(status))
    assert picture(registry, record) == before
    assert record.generation is None


def test_an_error_is_kept_with_the_state_it_led_to_and_gone_when_the_job_goes_on(registry, job):
    record, error = job(JobState.SUBMITTING), SeedanceError("words")
    registry.move(record, JobState.UNCERTAIN, error=error)
    assert repr(record.error) == repr(error)
    registry.resume(record, "req_1")
    assert record.error is None


# --- watchers -----------------------------------------------------------------------------------


def test_a_watcher_is_called_once_when_the_state_is_final_with_the_tables_in_order(registry, job):
    record, calls = job(QUEUED), []
    record.on_final(lambda r: calls.append((r.state, len(registry), registry.live)))
    registry.move(record, PROCESSING)
    assert calls == []
    registry.move(record, JobState.SUCCEEDED)
    assert calls == [(JobState.SUCCEEDED, 0, 0)]


def test_a_watcher_of_a_final_job_is_called_at_once_and_not_kept(registry, job):
    record, calls = job(JobState.UNCERTAIN), []
    record.on_final(calls.append)
    assert calls == [record]
    registry.resume(record, "req_1")
    registry.move(record, JobState.FAILED)
    assert calls == [record]


def test_a_watcher_taken_back_is_not_called_and_others_are(registry, job):
    record, calls, others = job(QUEUED), [], []
    record.on_final(calls.append)
    record.on_final(others.append)
    record.forget(calls.append)
    record.forget(calls.append)
    registry.move(record, JobState.FAILED)
    assert (calls, others) == ([], [record])


def test_a_watcher_may_take_an_uncertain_job_up_again(registry, job):
    record, ends = job(JobState.SUBMITTING), []
    record.on_final(lambda r: registry.resume(r, "req_1"))
    registry.move(record, JobState.UNCERTAIN)
    assert record.state is QUEUED
    record.on_final(ends.append)
    registry.move(record, JobState.FAILED)
    assert ends == [record]


def test_the_watchers_of_a_discarded_job_are_called_too(registry, job):
    record, calls = job(JobState.SUBMITTING), []
    record.on_final(calls.append)
    registry.discard(record)
    assert calls == [record]
    assert record.state is JobState.SUBMITTING


# --- everything at once -------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "c", "d"])
IDS = st.sampled_from(["req_1", "req_2", "req_3"])


class Life(RuleBasedStateMachine):
    """Any steps in any order: what is illegal raises and changes nothing, the rest adds up."""

    jobs = Bundle("jobs")

    def __init__(self):
        super().__init__()
        self.registry = TaskRegistry()
        self.known = []  # every record that was not discarded
        self.history = {}  # by record: the states it has been in, one after another
        self.calls, self.watched = {}, {}
        self.charged = self.unknown = 0

    def attempt(self, step, *records):
        """Whether a step was taken; if not, that it left everything as it was."""
        before = [picture(self.registry, record) for record in records]
        try:
            step()
        except (RuntimeError, ValueError):
            assert [picture(self.registry, record) for record in records] == before
            return False
        for record in records:
            self.note(record)
        return True

    def note(self, record):
        seen = self.history.setdefault(record, [record.state])
        if seen[-1] is not record.state:
            seen.append(record.state)

    @rule(target=jobs, key=KEYS)
    def add(self, key):
        taken = self.registry.find(key=key)
        if taken is not None:
            with pytest.raises(ValueError, match="belongs to a job"):
                self.registry.add(key, REQUEST)
            return taken
        record = self.registry.add(key, REQUEST)
        self.known.append(record)
        self.calls[record] = []
        self.note(record)
        return record

    @rule(record=jobs, state=st.sampled_from(JobState))
    def move(self, record, state):
        start, here = record.state, self.registry.find(key=record.key) is record
        moved = self.attempt(lambda: self.registry.move(record, state), record)
        assert moved is (here and state in TRANSITIONS[start])

    @rule(record=jobs, request_id=IDS, charged=st.none() | st.integers(0, 100))
    def accept(self, record, request_id, charged):
        answer = submission(request_id, charged)
        if self.attempt(lambda: self.registry.accept(record, answer), record):
            self.charged += charged or 0
            self.unknown += charged is None

    @rule(record=jobs, request_id=IDS)
    def take_up(self, record, request_id):
        was_uncertain = record.state is JobState.UNCERTAIN
        if self.attempt(lambda: self.registry.resume(record, request_id), record):
            self.unknown += was_uncertain

    @rule(record=jobs, status=st.sampled_from([*GenerationStatus, "moderating"]))
    def observe(self, record, status):
        start = record.state
        if not start.is_running:
            return
        moved = self.registry.observe(record, told(status))
        assert moved is (record.state is not start)
        self.note(record)

    @rule(record=jobs)
    def watch(self, record):
        calls, token = self.calls[record], object()
        self.watched.setdefault(record, []).append(token)
        final = record.state.is_final
        record.on_final(lambda r: calls.append((token, r.state)))
        assert (token in [t for t, _ in calls]) is final

    @rule(record=consumes(jobs))
    def discard(self, record):
        if self.attempt(lambda: self.registry.discard(record), record):
            self.known.remove(record)
            assert self.registry.find(key=record.key) is None

    @invariant()
    def the_counters_are_a_recount(self):
        registry = self.registry
        for state in JobState:
            assert registry.counts[state] == sum(r.state is state for r in self.known)
        assert registry.live == sum(not r.state.is_final for r in self.known)
        assert (registry.credits_charged, registry.credits_unknown) == (self.charged, self.unknown)

    @invariant()
    def the_tables_hold_the_jobs_of_which_something_can_become(self):
        open_jobs = [r for r in self.known if r.state not in ENDED]
        assert sorted(r.key for r in self.registry) == sorted(r.key for r in open_jobs)
        assert len(self.registry) == len(open_jobs)
        for record in open_jobs:
            assert self.registry.find(key=record.key) is record
            if record.request_id is not None:
                assert self.registry.find(request_id=record.request_id) is record
        ids = [r.request_id for r in open_jobs if r.request_id is not None]
        assert len(ids) == len(set(ids))
        for request_id in {"req_1", "req_2", "req_3"} - set(ids):
            assert self.registry.find(request_id=request_id) is None

    @invariant()
    def states_only_go_forward(self):
        order = list(JobState)
        for seen in self.history.values():
            for one, next_ in pairwise(seen):
                assert one not in ENDED
                assert order.index(next_) > order.index(one) or one is JobState.UNCERTAIN

    @invariant()
    def each_watcher_is_called_once_when_the_state_is_final(self):
        for record, calls in self.calls.items():
            called = [token for token, _ in calls]
            assert len(called) == len(set(called))
            discarded = record not in self.known
            assert all(state.is_final or discarded for _, state in calls)
            if record.state.is_final:
                assert set(called) == set(self.watched.get(record, []))


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestLife = Life.TestCase
