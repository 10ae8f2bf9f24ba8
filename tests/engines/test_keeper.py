"""`Keeper` and `Cancelled`: who takes over what, and who hears of what is cancelled."""

import asyncio

import attrs
import pytest

from seedance_async.engines import QueueError
from seedance_async.engines.dbos.cancelled import FEW, Cancelled
from seedance_async.engines.dbos.keeper import SIGNS, Keeper, executor_id, number_in
from seedance_async.engines.dbos.rows import Note


@attrs.frozen
class Row:
    workflow_id: str
    executor_id: str | None


class Rows:
    """What DBOS has of running tasks, and what was said of them."""

    def __init__(self, **workers):
        self.rows = [Row(key, worker) for key, worker in workers.items()]
        self.said, self.again, self.asked, self.away = [], [], [], 0
        self.fails = False

    async def running(self, executor_id=None):
        self.asked.append(executor_id)
        if self.fails:
            raise QueueError("it is away")
        return [row for row in self.rows if executor_id in (None, row.executor_id)]

    async def hand_out_again(self, ids):
        self.again += ids

    async def notes(self, since, known):
        asked = (note for note in self.said if note[1] >= (since or 0))
        return [note for note in asked if note[0] not in known]

    async def has_note(self, note_id):
        if self.away:
            self.away -= 1
            raise QueueError("it is away")
        return note_id in [each for each, *_ in self.said]


@attrs.define
class Signs:
    own: int = 1
    living: frozenset[int] = frozenset({1})

    async def roll_call(self, within):
        return self.own, self.living


def make(rows, signs, *, running=(), told=None, lost=None, workers=None):
    return Keeper(
        rows,
        signs,
        lease=10.0,
        look_every=1.0,
        executor_id=executor_id(signs.own, "here"),
        running=lambda: set(running),
        cancel=(told if told is not None else []).extend,
        lose=(lost if lost is not None else []).extend,
        share=(workers if workers is not None else []).append,
    )


async def test_the_tasks_of_those_who_are_dead_are_handed_out_again():
    rows = Rows(a="1@here", b="2@there", c="3@there", d=None, e="unheard of")
    await make(rows, Signs(1, frozenset({1, 3})), running="a").look_after()
    assert rows.again == ["b", "d", "e"]


async def test_one_of_the_living_takes_over_and_the_others_look_after_themselves():
    rows = Rows(a="1@here", b="2@there")
    await make(rows, Signs(3, frozenset({1, 3}))).look_after()
    assert (rows.again, rows.asked) == ([], ["3@here"])
    await make(rows, Signs(1, frozenset({1, 3})), running="a").look_after()
    assert rows.again == ["b"]


async def test_once_in_a_lease_each_takes_over_since_the_first_may_be_cut_off():
    rows = Rows(b="2@there")
    keeper = make(rows, Signs(3, frozenset({1, 3})))
    for _ in range(SIGNS - 1):
        await keeper.look_after()
    assert rows.again == []
    await keeper.look_after()
    assert rows.again == ["b"]


async def test_what_is_said_to_be_here_and_is_not_is_handed_out_again_at_the_second_look():
    rows = Rows(a="1@here", b="1@here", c="1@here")
    running = {"a", "b"}
    keeper = make(rows, Signs(), running=running)
    keeper._running = lambda: running
    await keeper.look_after()
    running.remove("b")
    assert rows.again == []
    await keeper.look_after()
    assert rows.again == ["c"]


async def test_the_number_of_workers_is_told_when_it_changes():
    workers = []
    signs = Signs()
    keeper = make(Rows(), signs, workers=workers)
    for living in ({1}, {1, 2}, {1, 2}, {1, 2, 3}, {1}):
        signs.living = frozenset(living)
        await keeper.look_after()
    assert workers == [2, 3, 1]


@pytest.mark.virtual_time
async def test_what_fails_is_logged_once_and_tried_again(caplog):
    class Failing(Signs):
        times = 0

        async def roll_call(self, within):
            self.times += 1
            if self.times < 5:
                raise QueueError("it is away")
            return self.own, self.living

    rows, signs = Rows(b="2@there"), Failing()
    keeping = asyncio.create_task(make(rows, signs).run())
    await asyncio.sleep(9)
    keeping.cancel()
    assert rows.again == ["b"]
    assert caplog.text.count("it is away") == 1


@pytest.mark.virtual_time
async def test_what_is_cancelled_is_heard_once_and_can_be_taken_back():
    rows, told = Rows(), []
    keeper = make(rows, Signs(), running="ab", told=told)
    rows.said = [("1", 5, Note(["a", "x"], True))]
    await keeper.hear()
    await keeper.hear()
    assert told == ["a"]
    assert "x" in keeper.cancelled
    assert "b" not in keeper.cancelled
    rows.said += [("2", 6, Note(["x"], False)), ("3", 7, Note(["y"], True))]
    await keeper.hear()
    assert "x" not in keeper.cancelled
    assert "y" in keeper.cancelled


@pytest.mark.virtual_time
async def test_who_was_away_learns_what_is_not_its_own_any_more_before_it_submits():
    rows, lost, told = Rows(a="1@here", b="2@there", c=None), [], []
    keeper = make(rows, Signs(), running="abcd", lost=lost, told=told)
    await keeper.hear()
    rows.said = [("1", 5, Note(["a"], True))]
    await asyncio.sleep(1.9)
    await keeper.catch_up()
    assert (lost, told) == ([], []), "it has heard lately"
    await asyncio.sleep(0.2)
    await asyncio.gather(keeper.catch_up(), keeper.catch_up())
    assert sorted(lost) == ["b", "c", "d"]
    assert told == ["a"]
    assert rows.asked == ["1@here"]


@pytest.mark.virtual_time
async def test_the_next_regular_look_after_an_absence_ends_what_is_not_its_own_any_more():
    """A submit that waits for its turn comes after it, and finds that this worker has heard."""
    rows, lost = Rows(a="1@here"), []
    keeper = make(rows, Signs(), running="ab", lost=lost)
    await keeper.hear()
    await asyncio.sleep(3)
    await keeper.hear()
    await keeper.catch_up()
    assert lost == ["b"]
    assert rows.asked == ["1@here"]


@pytest.mark.virtual_time
async def test_who_cannot_learn_what_became_of_its_tasks_submits_nothing():
    rows = Rows()
    keeper = make(rows, Signs())
    await keeper.hear()
    await asyncio.sleep(3)
    rows.fails = True
    with pytest.raises(QueueError):
        await keeper.catch_up()


async def test_what_is_cancelled_is_heard_though_the_clock_of_the_database_has_gone_back():
    rows = Rows()
    cancelled = Cancelled(rows, settled_after=3.0)
    rows.said = [("1", 500_000, Note(["a"], True))]
    assert await cancelled.look() == {"a"}
    rows.said.append(("2", 100_000, Note(["b"], True)))
    assert await cancelled.look() == {"b"}


async def test_of_many_notes_all_are_looked_through_at_each_tenth_look():
    rows = Rows()
    rows.said = [(f"{number}", 500_000, Note([f"{number}"], True)) for number in range(FEW + 1)]
    cancelled = Cancelled(rows, settled_after=3.0)
    assert len(await cancelled.look()) == FEW + 1
    rows.said.append(("late", 100_000, Note(["b"], True)))
    rows.said.append(("new", 500_001, Note(["c"], True)))
    assert await cancelled.look() == {"c"}
    assert [await cancelled.look() for _ in range(8)] == [set()] * 7 + [{"b"}]


@pytest.mark.virtual_time
async def test_what_was_said_of_a_run_that_is_forgotten_holds_no_more():
    rows = Rows()
    rows.said = [("1", 5, Note(["a", "b"], True)), ("2", 5, Note(["c"], True))]
    keeper = make(rows, Signs())
    await keeper.hear()
    rows.said.pop(0)
    rows.away = 2
    assert [await keeper.is_cancelled(each) for each in "abcd"] == [False, False, True, False]
    rows.said.append(("3", 9, Note(["a"], True)))
    await keeper.hear()
    assert await keeper.is_cancelled("a")


@pytest.mark.virtual_time
async def test_what_was_taken_back_after_the_last_look_is_made():
    rows = Rows()
    rows.said = [("1", 5, Note(["a", "b"], True))]
    keeper = make(rows, Signs())
    await keeper.hear()
    rows.said.append(("2", 6, Note(["a"], False)))
    assert not await keeper.is_cancelled("a")
    assert await keeper.is_cancelled("b")


@pytest.mark.virtual_time
async def test_others_have_time_to_hear_of_it_too():
    rows = Rows()
    rows.said = [("1", 5, Note(["a"], True))]
    cancelled, loop = Cancelled(rows, settled_after=3.0), asyncio.get_running_loop()
    await cancelled.look()
    began = loop.time()
    await cancelled.settled("a")
    await cancelled.settled("a")
    assert loop.time() - began == pytest.approx(3.0)


def test_a_worker_is_known_by_its_number_in_the_journal():
    assert number_in(executor_id(2**62, "a@b")) == 2**62
    assert number_in("local") is number_in(None) is None
