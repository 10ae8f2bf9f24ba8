"""What a batch would do in a queue, by what is known of its lines."""

import pytest

from seedance_async import GenerationRequest
from seedance_async.cli.inputs import Line
from seedance_async.cli.queues.planned import Planned, may_go_on
from seedance_async.cli.runs.journal_entries import KnownJobs
from seedance_async.engines import Outcome
from seedance_async.journal import JournalEntry

SENT = {"request_id": "req_1", "sent": True}


def entry(key, state, request_id=None):
    return JournalEntry(key, "f", '{"prompt": "p"}', state=state, request_id=request_id)


def planned(entries, enqueued, keys="abcd"):
    lines = [Line(n, GenerationRequest(key), key) for n, key in enumerate(keys, 1)]
    return Planned(lines, KnownJobs(entries, None), enqueued)


@pytest.mark.parametrize(
    ("outcome", "known", "may"),
    [
        (None, None, False),
        (Outcome("a", "rejected"), None, True),
        (Outcome("a", "abandoned", **SENT), entry("a", "queued", "req_1"), True),
        (Outcome("a", "cancelled"), None, True),
        (Outcome("a", "cancelled", **SENT), entry("a", "cancelled", "req_1"), False),
        (Outcome("a", "failed", **SENT), entry("a", "failed", "req_1"), False),
        (Outcome("a", "succeeded", file="/a.mp4", **SENT), entry("a", "succeeded", "req_1"), False),
        (Outcome("a", "succeeded", **SENT), entry("a", "succeeded", "req_1"), True),
        (Outcome("a", "uncertain", sent=True), entry("a", "uncertain"), False),
        (Outcome("a", "uncertain", sent=True), entry("a", "submitting"), False),
        (Outcome("a", "uncertain", sent=True), entry("a", "queued", "req_1"), True),
    ],
)
def test_what_may_go_on_is_never_bought_twice(outcome, known, may):
    assert may_go_on(outcome, known) is may


def test_only_what_nobody_has_agreed_to_is_asked_for():
    found = planned(
        [entry("a", "succeeded", "req_1"), entry("b", "rejected")],
        {
            "a": Outcome("a", "succeeded", file="/a", **SENT),
            "b": Outcome("b", "rejected"),
            "c": None,
        },
    )
    assert [line.key for line in found.new] == ["b", "d"]  # c waits for a worker already
    assert found.again == ["b"]


def test_tasks_that_no_line_is_are_strangers_until_they_have_ended():
    found = planned([], {"a": None, "x": None, "y": Outcome("y", "succeeded", **SENT)})
    assert found.strangers == ["x"]


def test_jobs_of_other_runs_are_not_left_behind():
    entries = [entry("mine", "queued", "req_1"), entry("theirs", "queued", "req_2")]
    left = planned(entries, {"mine": None}).left_behind(set())
    assert [each.key for each in left.running] == ["mine"]
