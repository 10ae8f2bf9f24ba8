"""The jobs in progress, by the events of their session."""

import pytest

from seedance_async import (
    GenerationRequest,
    JobAccepted,
    JobFailed,
    JobResumed,
    JobStarted,
    JobSubmitted,
    JobSucceeded,
    JobWithdrawn,
    PollFailed,
    VideoSaved,
)
from seedance_async.cli.live.jobs import RunningJobs, Step

REQUEST = GenerationRequest("a river", duration=4)


@pytest.fixture
def jobs():
    return RunningJobs(lambda request: None, saves=True)


def told(kind, at, key="one", **more):
    return kind(at=at, key=key, request_id=f"req_{key}", request=REQUEST, **more)


def steps(jobs):
    return [job.step for job in jobs.shown(10)]


def test_a_job_goes_through_its_steps_and_leaves(jobs, tmp_path):
    jobs.hear(JobSubmitted(at=1.0, key="one", request=REQUEST))
    assert steps(jobs) == [Step.SENDING]
    jobs.hear(told(JobAccepted, 2.0, seconds=0.0))
    assert steps(jobs) == [Step.QUEUED]
    jobs.hear(told(JobStarted, 3.0, seconds=1.0))
    assert steps(jobs) == [Step.PROCESSING]
    jobs.hear(told(PollFailed, 4.0, error=None))
    jobs.hear(told(JobSucceeded, 9.0, seconds=7.0))
    assert steps(jobs) == [Step.SAVING]
    jobs.hear(told(VideoSaved, 10.0, path=tmp_path, size=1))
    assert steps(jobs) == []


def test_a_video_that_is_not_saved_is_over_with_its_outcome(jobs):
    jobs.hear(told(JobAccepted, 2.0))
    jobs.hear(told(JobSucceeded, 9.0))
    jobs.settled(None)
    assert len(jobs) == 1
    jobs.settled("req_one")
    assert len(jobs) == 0


def test_a_run_that_saves_nothing_is_over_with_the_end_of_the_job():
    jobs = RunningJobs(lambda request: None, saves=False)
    jobs.hear(told(JobAccepted, 2.0))
    jobs.hear(told(JobSucceeded, 9.0))
    assert len(jobs) == 0


def test_what_is_expected_is_learned_by_kind_and_else_of_all(jobs):
    other = GenerationRequest("a fox", duration=10)
    jobs.hear(told(JobAccepted, 0.0, "a"))
    jobs.hear(told(JobFailed, 20.0, "a", seconds=20.0))
    jobs.hear(JobAccepted(at=100.0, key="b", request_id="req_b", request=other))
    jobs.hear(told(JobAccepted, 100.0, "c"))
    by_id = {job.request_id: job for job in jobs.shown(10)}
    assert jobs.expected(by_id["req_c"], 105.0) == 20.0
    assert jobs.expected(by_id["req_b"], 105.0) == 20.0, "of all, while its kind is unknown"
    jobs.hear(JobSucceeded(at=180.0, key="b", request_id="req_b", request=other, seconds=80.0))
    jobs.hear(JobAccepted(at=200.0, key="d", request_id="req_d", request=other))
    assert jobs.expected(jobs.shown(10)[-1], 205.0) == 80.0
    assert jobs.expected(by_id["req_c"], 150.0) == 20.0, "less than its age: it is overdue"


def test_the_end_of_the_last_job_is_known_once_each_is(jobs):
    assert jobs.remaining(0.0) == 0.0
    jobs.hear(told(JobAccepted, 0.0, "a"))
    assert jobs.remaining(5.0) is None
    jobs.hear(told(JobSucceeded, 20.0, "a", seconds=20.0))
    jobs.hear(told(JobAccepted, 100.0, "b"))
    jobs.hear(told(JobAccepted, 104.0, "c"))
    assert jobs.remaining(110.0) == 14.0


def test_a_job_of_an_earlier_run_is_older_than_anybody_knows(jobs):
    jobs.hear(told(JobAccepted, 0.0, "a"))
    jobs.hear(told(JobSucceeded, 20.0, "a", seconds=20.0))
    jobs.hear(told(JobResumed, 100.0, "b"))
    job = jobs.shown(10)[-1]
    assert job.is_older
    assert jobs.expected(job, 105.0) is None


def test_a_job_that_was_never_sent_leaves(jobs):
    jobs.hear(JobSubmitted(at=1.0, key="one", request=REQUEST))
    jobs.hear(JobWithdrawn(at=2.0, key="one", request=REQUEST))
    assert len(jobs) == 0


def test_before_a_job_of_its_kind_has_ended_earlier_runs_say_what_is_expected(jobs):
    jobs.learn([(REQUEST.kind, 30.0)])
    jobs.hear(told(JobAccepted, 100.0, "a"))
    assert jobs.expected(jobs.shown(1)[0], 105.0) == 30.0
    jobs.hear(told(JobSucceeded, 120.0, "a", seconds=20.0))
    jobs.hear(told(JobAccepted, 130.0, "b"))
    assert jobs.expected(jobs.shown(10)[-1], 135.0) == 20.0
