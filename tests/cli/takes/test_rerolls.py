"""Whatever is called, in whatever order, and killed wherever: no take is bought twice."""

from contextlib import suppress
from pathlib import Path

import click
from hypothesis import given, settings
from hypothesis import strategies as st

from seedance_async import GenerationRequest
from seedance_async.cli.inputs import Line
from seedance_async.cli.takes.keys import with_takes
from seedance_async.cli.takes.rerolls import Rerolls
from seedance_async.journal import JournalEntry

LINES = {n: Line(n, GenerationRequest(f"shot {n}"), key=f"shot-{n}") for n in (1, 2, 3)}
REQUEST = '{"prompt": "shot"}'

#: What becomes of a job that is bought: it is saved, goes on, is in doubt, failed, or was refused.
ENDS = ("succeeded", "queued", "uncertain", "failed", "rejected")


class Folder:
    """A folder whose commands are played, with what they buy."""

    def __init__(self):
        self.jobs, self.begun, self.charged = {}, {}, []

    def buy(self, lines, ends):
        """Submit those that are new or were refused, until the process is killed."""
        for line in lines:
            job = self.jobs.get(line.key)
            if job is not None and job.state != "rejected":
                if job.state == "queued":
                    self.jobs[line.key] = entry(line.key, "succeeded")  # resumed
                continue
            end = next(ends, None)
            if end is None:
                return False
            if end != "rejected":
                self.charged.append(line.key)
            self.jobs[line.key] = entry(line.key, end)
        return True

    def batch(self, takes, ends):
        self.buy(with_takes(list(LINES.values()), takes, self.jobs.values()), ends)

    def reroll(self, numbers, ends, take=None):
        chosen = [LINES[number] for number in sorted(numbers)]
        rerolls = Rerolls(Path("x"), LINES, list(self.jobs.values()), list(self.begun.values()))
        plan = rerolls.plan(chosen, {}) if take is None else rerolls.numbered(chosen, {}, take)
        if take is None:
            self.begun[plan.file_name] = plan
        has_run = self.buy(plan.lines(chosen), ends)
        if has_run and take is None and plan.is_done(self.jobs.values()):
            del self.begun[plan.file_name]
        return plan


def entry(key, state):
    path = "a.mp4" if state == "succeeded" else None
    return JournalEntry(key=key, fingerprint="f", request=REQUEST, state=state, path=path)


some_lines = st.sets(st.sampled_from([1, 2, 3]), min_size=1)
some_ends = st.lists(st.sampled_from(ENDS), max_size=4)
calls = st.lists(
    st.one_of(
        st.tuples(st.just("batch"), st.integers(1, 3), some_ends),
        st.tuples(st.just("reroll"), some_lines, some_ends),
    ),
    max_size=6,
)


def played(done):
    folder = Folder()
    for name, what, ends in done:
        with suppress(click.UsageError):
            getattr(folder, name)(what, iter(ends))
    return folder


@settings(max_examples=300)
@given(calls, some_lines, st.integers(0, 3))
def test_a_reroll_killed_anywhere_buys_what_it_was_for_and_no_more(before, numbers, killed_after):
    folder = played(before)
    with suppress(click.UsageError):  # another reroll of these lines may be running
        first = folder.reroll(numbers, iter(["queued"] * killed_after))
        wanted = {key for key in first.keys.values() if key not in folder.charged}
        count = len(folder.charged)
        again = folder.reroll(numbers, iter(["succeeded"] * 9))
        if wanted:  # it was killed before it was done
            assert again == first
            assert set(folder.charged[count:]) == wanted
        if again.file_name not in folder.begun:  # nothing of it is in doubt
            after = folder.reroll(numbers, iter(["succeeded"] * 9))
            assert not set(after.keys.values()) & set(again.keys.values()), "one more"
            assert set(after.keys.values()) <= set(folder.charged)
    begun = [key for each in folder.begun.values() for key in each.keys.values()]
    assert len(begun) == len(set(begun)), "no two rerolls have the same take"
    assert len(folder.charged) == len(set(folder.charged))


@settings(max_examples=60)
@given(calls, st.integers(1, 3))
def test_a_batch_buys_the_missing_takes_once(before, takes):
    folder = played(before)
    for _ in range(2):
        folder.batch(takes, iter(["succeeded"] * 99))
    assert len(folder.charged) == len(set(folder.charged))
    for line in LINES.values():
        keys = {line.key, *(f"{line.key}.take{take}" for take in range(2, takes + 1))}
        assert keys <= set(folder.charged)


@settings(max_examples=60)
@given(calls, some_lines, st.integers(2, 4))
def test_a_numbered_take_is_bought_once_whatever_came_before(before, numbers, take):
    folder = played(before)
    with suppress(click.UsageError):  # it was bought with another request
        for _ in range(3):
            folder.reroll(numbers, iter(["queued"] * 9), take)
    assert len(folder.charged) == len(set(folder.charged))
