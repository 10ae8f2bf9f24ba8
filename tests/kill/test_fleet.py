"""Workers of one queue killed, stopped and cut off: short versions of `make torture-fleet`."""

import attrs

from benchmarks.torture.faults import MODERATE
from benchmarks.torture.fleet_chaos import FleetTorture
from benchmarks.torture.fleet_run import run
from tests.conftest import SEED
from tests.support.postgres import required

#: Without jobs that never end: the run would wait for their deadline.
QUICK = {**MODERATE, "job_faults": {"failed": 0.02, "cancelled": 0.01}}
SHORT = FleetTorture(
    workers=2,
    jobs=60,
    kills=3,
    stops=1,
    restarts=0,
    queue="sqlite",
    seed=SEED,
    lease=0.6,
    running_seconds=0.2,
    max_in_flight=10,
    faults=QUICK,
    minutes=1.0,
    durable=False,
    look_every=0.1,
)


async def test_workers_that_are_killed_and_stopped_lose_nothing_and_pay_nothing_twice(tmp_path):
    result = await run(SHORT, tmp_path)
    assert result.verdict.holds, result.verdict.details
    assert not result.tally.crashes
    assert (result.tally.kills, result.tally.stops) == (3, 1)
    assert result.verdict.figures["told as rejected"] > 0, "the limit was never reached"
    assert result.verdict.figures["videos"] > 30


async def test_a_database_that_crashes_in_a_run_loses_nothing(tmp_path):
    required()
    torture = attrs.evolve(SHORT, queue="postgres", kills=1, stops=0, restarts=1)
    result = await run(torture, tmp_path)
    assert result.verdict.holds, result.verdict.details
    assert not result.tally.crashes
    assert sum(result.restarts.values()) == 1
    assert result.verdict.figures["videos"] > 30
