"""Limits over all workers: tasks at once, submits at once, polls a second."""

import asyncio
import logging
import math

import pytest
from dbos import DBOS

from seedance_async import ConfigurationError
from seedance_async.emulator import Emulator, EmulatorOptions
from seedance_async.engines.dbos import SeedanceWorker
from tests.conftest import SEED
from tests.engines.conftest import OnDBOS
from tests.engines.test_failures import LEASE, SQLITE, process

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_tasks_at_once_and_polls_a_second_are_those_of_all_workers(
    postgres_dsn, make_requests, tmp_path
):
    limits = {"max_in_flight": 2, "concurrency": 3, "lease": LEASE, "look_every": 0.2}
    async with Emulator(EmulatorOptions(seed=SEED, media="shared", hold=True)) as emulator:
        engine = OnDBOS(postgres_dsn, emulator, tmp_path / "videos")
        other_process, worker = process(engine, **limits), engine.worker(poll_rate=60.0, **limits)
        async with engine.queue() as queue, other_process as other, worker:
            await shared(worker, 30.0)
            await queue.enqueue(make_requests(6), run="autumn")
            await emulator.wait_until(lambda: len(emulator.jobs) == 3)
            assert sorted((await queue.status(run="autumn")).workers.values()) == [1, 2]
            for number in range(6):
                await emulator.wait_until(lambda: len(emulator.jobs) > number)  # noqa: B023
                job = emulator.jobs.values()[number]
                emulator.jobs.start(job.request_id)
                emulator.jobs.finish(job.request_id)
            assert len([each async for each in queue.results(run="autumn")]) == 6
            other.terminate()
            await shared(worker, 60.0)
        assert emulator.jobs.peak_active == 3


async def shared(worker, rate):
    async with asyncio.timeout(20):
        while worker._session.poll_rate != rate:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("mysql://a/b", {}, "postgresql"),
        ("sqlite://", {}, "sqlite"),
        ("postgresql://host-alone", {}, "host=one,other"),
        ("postgresql://u:secret@h:1,h:2/db", {}, "host=one,other"),
        ("sqlite:///run.db", {"resubmit_uncertain": True}, "never submits again"),
        ("sqlite:///run.db", {"concurrency": 0}, "concurrency must be"),
        ("sqlite:///run.db", {"concurrency": 1.5}, "concurrency must be a whole number above zero"),
        ("sqlite:///run.db", {"at_once": 0}, "at_once must be a whole number above zero, not 0"),
        (
            "sqlite:///run.db",
            {"at_once": 2.5},
            "at_once must be a whole number above zero, not 2.5",
        ),
        ("sqlite:///run.db", {"at_once": -1}, "at_once must be a whole number above zero, not -1"),
        ("sqlite:///run.db", {"rate": 0.0}, "rate must be"),
        ("sqlite:///run.db", {"rate": math.nan}, "rate must be"),
        ("sqlite:///run.db", {"lease": math.nan}, "lease must be finite and above zero, not nan"),
        ("sqlite:///run.db", {"lease": 0}, "lease must be finite and above zero, not 0"),
        ("sqlite:///run.db", {"lease": -1}, "lease must be finite and above zero, not -1"),
        ("sqlite:///run.db", {"lease": "60"}, "lease must be a number, not '60'"),
        ("sqlite:///run.db", {"look_every": 0}, "look_every must be finite and above zero"),
        (
            "sqlite:///run.db",
            {"leave_within": -1},
            "leave_within must be finite and above zero, not -1",
        ),
        ("sqlite:///run.db", {"journal": "run.journal.db"}, "workers share"),
        ("sqlite:///run.db", {"max_in_flight": 0}, "max_in_flight"),
    ],
)
async def test_what_cannot_be_used_is_refused(url, options, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        SeedanceWorker(url, api_key="sd2_live_k", **options)
    assert "secret" not in str(caught.value)


@SQLITE
async def test_a_process_has_one_worker(engine):
    async with engine.worker():
        with pytest.raises(RuntimeError, match="one worker"):
            async with engine.worker():
                pass


@SQLITE
async def test_dbos_writes_nothing_by_itself(engine, capfd):
    async with engine.worker(), engine.queue() as queue:
        await queue.status(run="autumn")
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("dbos").propagate


@SQLITE
async def test_a_process_that_uses_dbos_for_something_else_has_no_worker(engine, tmp_path):
    url = f"sqlite:///{tmp_path / 'other.db'}"
    DBOS(config={"name": "other-app", "system_database_url": url})
    try:
        with pytest.raises(RuntimeError, match="uses DBOS already"):
            async with engine.worker():
                pass
    finally:
        DBOS.destroy()
    async with engine.worker():
        pass
