"""Runs killed at random instants: short versions of `make torture`."""

from benchmarks.torture.bucket import bucket
from benchmarks.torture.faults import MODERATE
from benchmarks.torture.run import Torture, run
from tests.conftest import SEED

#: Without jobs that never end: each start of a run would wait five seconds for them.
QUICK = {**MODERATE, "job_faults": {"failed": 0.02, "cancelled": 0.01}}


async def test_random_faults_and_random_kills_lose_nothing_and_pay_nothing_twice(tmp_path):
    torture = Torture(submissions=300, kills=6, batches=2, seed=SEED, budget=0.6, faults=QUICK)
    outcome = await run(torture, tmp_path)
    verdict = outcome.verdict
    assert verdict.holds, verdict.details
    assert outcome.kills > 3, "a slow machine may complete before some of them"
    assert outcome.faults.total() > 30
    assert outcome.budget_refusals > 0
    assert verdict.videos > 100
    assert verdict.lies_believed == 0


async def test_downloads_are_completed_after_kills_at_random_instants(tmp_path):
    torture = Torture(submissions=60, kills=6, seed=SEED, faults={}, max_in_flight=8)
    outcome = await run(torture, tmp_path)
    assert outcome.verdict.holds, outcome.verdict.details
    assert outcome.kills > 3
    assert outcome.verdict.videos + outcome.verdict.uncertain_reported == 60


async def test_500_jobs_killed_at_a_random_instant_give_500_files_except_for_uncertain_jobs(
    tmp_path,
):
    torture = Torture(submissions=500, kills=1, seed=SEED, faults={}, running_seconds=0.1)
    outcome = await run(torture, tmp_path)
    verdict = outcome.verdict
    assert verdict.holds, verdict.details
    assert (outcome.kills, outcome.lives) == (1, 2)
    assert verdict.videos == 500 - verdict.uncertain_reported
    assert verdict.charged == verdict.videos + verdict.uncertain_charged
    assert verdict.uncertain_reported <= 20, "no more than were in flight"


async def test_a_batch_into_a_bucket_is_whole_after_kills_at_random_instants(tmp_path):
    torture = Torture(submissions=12, kills=3, seed=SEED, faults={}, max_in_flight=8)
    with bucket() as place:
        outcome = await run(torture, tmp_path, bucket=place)
    assert outcome.verdict.holds, outcome.verdict.details
    assert outcome.kills > 1, "a quick machine may complete before some of them"
    assert outcome.verdict.videos + outcome.verdict.uncertain_reported == 12
