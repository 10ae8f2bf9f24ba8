"""`RunWatch`: what the rows of DBOS mean for who reads a run."""

import time

import attrs
import pytest

from seedance_async.engines import Outcome
from seedance_async.engines.dbos.watch import ALL_AGAIN, RunWatch


@attrs.define
class Row:
    workflow_id: str
    status: str = "ENQUEUED"
    executor_id: str | None = None
    output: str | None = None
    error: Exception | None = None
    created_at: int = 1
    completed_at: int | None = None


class Rows:
    def __init__(self, *rows):
        self.rows, self.noted, self.again = list(rows), [], []

    async def of_run(self, run, *, status=None, since=None, ended_since=None):
        wanted = [status] if isinstance(status, str) else status
        found = [row for row in self.rows if wanted is None or row.status in wanted]
        found = [row for row in found if row.created_at >= (since or 0)]
        return [row for row in found if ended_since is None or row.completed_at >= ended_since]

    async def with_outputs(self, ids):
        yield [row for row in self.rows if row.workflow_id in ids]

    async def note(self, run, ids, *, cancels):
        self.noted += [(each, cancels) for each in ids]

    async def hand_out_again(self, ids):
        self.again += ids


async def test_counts_and_outcomes_follow_the_rows():
    made = Outcome("c", "succeeded", "req_1", sent=True)
    rows = Rows(Row("r/a"), Row("r/b", "PENDING", "1@x"), Row("r/c", "SUCCESS", output=made.dump()))
    watch = RunWatch(rows, "r")
    assert await watch.look() == [made]
    assert (watch.status.waiting, watch.status.running) == (1, 1)
    assert watch.status.ended == {"succeeded": 1}
    assert (watch.status.workers, set(watch.status.making)) == ({"1@x": 1}, {"b"})
    rows.rows[0].status = "CANCELLED"
    assert await watch.look() == [Outcome("a", "cancelled")]
    assert await watch.look() == []
    assert not watch.status.is_complete


@pytest.mark.parametrize("status", ["ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"])
async def test_what_dbos_ended_is_told_with_its_reason(status):
    [told] = await RunWatch(Rows(Row("r/a", status, error=LookupError("a bug"))), "r").look()
    assert (told.key, told.state) == ("a", "abandoned")
    assert status in told.error
    assert "a bug" in told.error


async def test_what_a_worker_had_when_it_was_cancelled_is_told_by_a_worker():
    """A worker took it in the moment of the cancelling, or somebody used DBOS's own dashboard."""
    rows = Rows(Row("r/a", "CANCELLED", executor_id="1@x"))
    watch = RunWatch(rows, "r")
    assert await watch.look() == []
    assert not watch.status.is_complete
    assert (rows.noted, rows.again) == ([("r/a", True)], ["r/a"])
    rows.rows[0].status = "SUCCESS"
    rows.rows[0].output = Outcome("a", "cancelled", "req_1", sent=True).dump()
    assert [each.sent for each in await watch.look()] == [True]
    assert watch.status.is_complete


async def test_what_somebody_else_hands_out_again_is_not_complete_and_is_told_once_more():
    refused, made = Outcome("a", "rejected"), Outcome("a", "succeeded", "req_1", sent=True)
    row = Row("r/a", "SUCCESS", output=refused.dump(), created_at=20_000, completed_at=30_000)
    older = Row("r/b", "CANCELLED", created_at=1, completed_at=1)
    rows = Rows(row, older)
    watch = RunWatch(rows, "r")
    assert (len(await watch.look()), watch.status.is_complete) == (2, True)
    row.status, row.completed_at = "ENQUEUED", None
    assert await watch.look() == []
    assert (watch.status.waiting, watch.status.ended) == (1, {"cancelled": 1})
    row.status, row.executor_id = "PENDING", "1@x"
    assert await watch.look() == []
    assert (watch.status.running, watch.status.is_complete) == (1, False)
    row.status, row.output, row.completed_at = "SUCCESS", made.dump(), 40_000
    assert (await watch.look(), await watch.look()) == ([made], [])
    assert watch.status.ended == {"succeeded": 1, "cancelled": 1}
    row.output, row.completed_at = refused.dump(), 50_000  # again, and ended between two looks
    assert (await watch.look(), watch.status.ended) == ([refused], {"rejected": 1, "cancelled": 1})
    older.status, older.completed_at = "ENQUEUED", None
    assert (await watch.look(), watch.status.is_complete) == ([], False)


async def test_a_run_that_somebody_forgets_is_over_for_who_follows_it(monkeypatch):
    made = Outcome("b", "succeeded", "req_1", sent=True)
    rows = Rows(Row("r/a"), Row("r/b", "SUCCESS", output=made.dump(), created_at=20_000))
    watch, now = RunWatch(rows, "r"), time.monotonic()
    assert await watch.look() == [made]
    gone = rows.rows.pop(0)
    monkeypatch.setattr(time, "monotonic", lambda: now + 2 * ALL_AGAIN)
    assert await watch.look() == []
    assert (watch.status.total, watch.keys, watch.status.is_complete) == (1, ["b"], True)
    rows.rows = [gone]
    monkeypatch.setattr(time, "monotonic", lambda: now + 4 * ALL_AGAIN)
    await watch.look()
    assert (watch.status.waiting, watch.status.ended) == (1, {})
    rows.rows = []
    monkeypatch.setattr(time, "monotonic", lambda: now + 6 * ALL_AGAIN)
    await watch.look()
    assert (watch.status.total, watch.status.is_complete) == (0, True)
