"""What a session tells of itself, and that asking costs the same however many jobs there are."""

import asyncio
import gc
import sys
from types import SimpleNamespace

import attrs
import pytest

from seedance_async import GenerationRequest, JobState, SessionStats
from seedance_async.api.rate_limit import GateState
from seedance_async.jobs.stats import REMEMBERED_TIMES, FinishTimes
from tests.support.fakes import error_reply, told

pytestmark = pytest.mark.virtual_time

REQUEST = GenerationRequest("a river", duration=5)
NOTHING = SessionStats({}, 0, 0, 0, polls=0, refusals=0)


# --- the figures that are kept ------------------------------------------------------------------


def test_while_nothing_has_ended_nothing_is_known():
    times = FinishTimes()
    assert times.quantiles(0.5, 0.95) == (None, None)
    assert times.polls_per_job is None
    assert times.rate(10) is None


def test_quantiles_are_times_that_were_seen():
    times = FinishTimes()
    for seconds in range(100, 0, -1):
        times.note(float(seconds), polls=3)
    assert times.quantiles(0.0, 0.5, 0.95, 1.0) == (1.0, 50.0, 95.0, 100.0)


def test_the_last_thousand_jobs_are_remembered_and_no_more():
    times = FinishTimes()
    for seconds in [1000.0] * 50 + [10.0] * REMEMBERED_TIMES:
        times.note(seconds, polls=2)
    assert times.quantiles(1.0) == (10.0,)
    assert len(times._seconds) == REMEMBERED_TIMES


def test_a_job_whose_acceptance_was_not_seen_counts_for_the_polls_alone():
    times = FinishTimes()
    times.note(None, polls=7)
    times.note(20.0, polls=2)
    assert times.polls_per_job == 4.5
    assert times.quantiles(0.5) == (20.0,)


def test_the_rate_is_what_runs_by_how_long_it_takes():
    times = FinishTimes()
    for seconds in (5.0, 15.0):
        times.note(seconds, polls=1)
    assert times.rate(20) == 2.0
    assert times.rate(0) is None


def test_times_of_nothing_at_all_give_no_rate():
    times = FinishTimes()
    times.note(0.0, polls=1)
    assert times.rate(20) is None


# --- when it will be over -----------------------------------------------------------------------


def test_the_eta_is_what_is_left_by_the_rate():
    counts = {JobState.PENDING: 30, JobState.QUEUED: 10, JobState.SUCCEEDED: 500}
    assert attrs.evolve(NOTHING, counts=counts, finish_rate=2.0).eta == 20.0


def test_the_eta_is_zero_where_nothing_is_left_and_unknown_where_nothing_has_ended():
    assert attrs.evolve(NOTHING, counts={JobState.SUCCEEDED: 3, JobState.UNCERTAIN: 1}).eta == 0.0
    assert attrs.evolve(NOTHING, counts={JobState.QUEUED: 1}).eta is None


async def test_the_eta_of_many_waiting_jobs_comes_true(make_session, api):
    api.seconds = 60.0
    loop = asyncio.get_running_loop()
    async with make_session(max_in_flight=20) as session, asyncio.TaskGroup() as group:
        for number in range(400):
            group.create_task(session.generate(attrs.evolve(REQUEST, prompt=f"prompt {number}")))
        await asyncio.sleep(0)
        assert session.stats().eta is None
        await asyncio.sleep(400.0)
        stats, asked_at = session.stats(), loop.time()
        assert stats.counts[JobState.PENDING] > 200
    took = loop.time() - asked_at
    assert 0.8 * took < stats.eta < 1.2 * took
    assert session.stats().eta == 0.0


# --- of a session -------------------------------------------------------------------------------


async def test_a_run_reports_how_long_its_jobs_took_and_how_often_each_was_polled(
    make_session, api
):
    async with make_session(max_in_flight=50) as session:
        assert session.stats().time_to_finish_p50 is None
        await session.run([attrs.evolve(REQUEST, prompt=f"prompt {n}") for n in range(50)])
        stats = session.stats()
    assert 10.0 <= stats.time_to_finish_p50 <= stats.time_to_finish_p95 < 20.0
    assert stats.polls_per_job == stats.polls / 50 == api.count("get") / 50
    assert stats.finish_rate is None, "nothing runs any more"


async def test_every_end_that_the_server_reports_counts_and_no_other(make_session, api):
    api.script["get"] += [told("req_0", "failed")]
    async with make_session(job_timeout=30.0) as session:
        await session.run([REQUEST])
        await (await session.submit(REQUEST)).cancel()
        await session.run([REQUEST])
        api.seconds = 1000.0
        await session.run([REQUEST])
        assert session.stats().counts[JobState.ABANDONED] == 1
        assert len(session._poller.finish_times._seconds) == 3


async def test_a_job_of_another_session_says_nothing_of_the_time_to_finish(make_session, api):
    api.jobs["req_old"] = asyncio.get_running_loop().time()
    async with make_session() as session:
        await (await session.attach("req_old"))
        assert session.stats().time_to_finish_p95 is None
        assert session.stats().polls_per_job == api.count("get")


async def test_refusals_of_submits_and_of_queries_are_counted_apart(make_session, api):
    api.script["create"] += [error_reply(429)] * 2
    api.script["get"] += [error_reply(429)] * 3
    async with make_session() as session:
        await session.generate(REQUEST)
        stats = session.stats()
    assert (stats.refusals, stats.query_refusals) == (2, 3)


async def test_stats_report_the_limits_that_the_gate_has_learned(make_session, monkeypatch):
    async with make_session() as session:
        assert (session.stats().submit_rate, session.stats().submit_limit) == (None, None)
        with monkeypatch.context() as patch:
            learnt = GateState(4.5, 2.5, 7, 0.125)
            gate = SimpleNamespace(state=lambda: learnt, refusals=3)
            patch.setattr(session.client, "submit_gate", gate)
            stats = session.stats()
    assert (stats.submit_rate, stats.submit_limit, stats.refusals) == (2.5, 7, 3)
    assert (stats.submit_noise, stats.submit_hold) == (0.125, 4.5)


def calls_of(function):
    """How many functions are called, and by that how much is done."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.collect()
    gc.disable()  # what is collected meanwhile would be counted, too
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


async def test_asking_costs_the_same_however_many_jobs_there_are(make_session):
    async with make_session() as session:
        for_none = calls_of(session.stats)
        for number in range(5000):
            session.registry.add(f"key {number}", REQUEST)
        assert calls_of(session.stats) == for_none
        assert session.stats().counts[JobState.PENDING] == 5000
        for record in session.registry:
            session.registry.discard(record)
