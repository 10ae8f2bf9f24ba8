"""A run killed at each step of a job's life and started again: the ledger, the journal and the
folder agree, nothing is charged twice, and every uncertain job is reported.
"""

import pytest

from benchmarks.torture.judge import read_journal

pytestmark = pytest.mark.asyncio(loop_scope="module")

JOBS = 3

#: Steps, the occurrence at which the run is killed, and how many jobs may become uncertain: those
#: with an intent on disk and no id. One job is in flight at a time; while a video is saved the
#: next job may be at any step.
ANY = {0, 1}
STEPS = [
    ("before opening", 1, {0}),
    ("after opening", 1, {0}),
    ("before looking up", 2, {0}),
    ("before the claim", 2, {0}),
    ("after the claim", 2, {1}),
    ("before the submit", 2, {1}),
    ("headers sent", 2, {1}),
    ("after the submit", 2, {1}),
    ("before recording the id", 2, {1}),
    ("after recording the id", 2, {0}),
    ("before a poll", 2, {0}),
    ("after a poll", 2, {0}),
    ("before recording the end", 2, {0}),
    ("after recording the end", 2, {0}),
    ("before a download", 2, ANY),
    ("during a download", 2, ANY),
    ("after a download", 2, ANY),
    ("before giving the file its name", 2, ANY),
    ("after giving the file its name", 2, ANY),
    ("before recording the file", 2, ANY),
    ("after recording the file", 2, ANY),
    ("before closing", 1, {0}),
    ("after closing", 1, {0}),
]


def assert_all_is_accounted_for(verdict, uncertain):
    assert verdict.details == []
    assert verdict.holds
    assert verdict.uncertain_reported in uncertain
    assert verdict.videos == JOBS - verdict.uncertain_reported
    assert verdict.charged == verdict.videos + verdict.uncertain_charged


@pytest.mark.parametrize(("step", "nth", "uncertain"), STEPS, ids=[step for step, *_ in STEPS])
async def test_a_run_killed_at_a_step_and_started_again_loses_nothing(
    make_batch, step, nth, uncertain
):
    batch = make_batch(JOBS, max_in_flight=1, max_downloads=1)
    await batch.die(step, nth)
    await batch.finish()
    verdict = await batch.verdict()
    assert_all_is_accounted_for(verdict, uncertain)
    assert verdict.leftovers <= 1
    assert batch.tally.lives == 1, "one more start is enough"


async def test_a_run_killed_between_a_charge_and_its_answer_reports_that_job_as_uncertain(
    make_batch, emulator
):
    batch = make_batch(JOBS, max_in_flight=1)
    second = f"{batch.plan.name} 00001"
    emulator.faults.script("submit", "latency seconds=1 accepted=true", match=second)
    process = await batch.start_dying()
    await batch.until(lambda: emulator.ledger.charged_prompts()[second], process)
    await batch.bury(process)
    await batch.finish()
    verdict = await batch.verdict()
    assert_all_is_accounted_for(verdict, {1})
    assert verdict.uncertain_charged == 1
    rows = read_journal(batch.plan.journal)
    assert [row.prompt for row in rows if row.state == "uncertain"] == [second]


async def test_a_run_killed_after_every_acceptance_completes(make_batch):
    batch = make_batch(JOBS, max_in_flight=1)
    for _ in range(JOBS):
        await batch.die("after recording the id", 1)
    await batch.finish()
    assert_all_is_accounted_for(await batch.verdict(), {0})
