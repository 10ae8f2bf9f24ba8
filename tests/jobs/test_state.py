"""What the states of a job mean to a later run."""

from seedance_async import JobState


def test_each_state_has_ended_is_resumable_is_unanswered_or_cost_nothing():
    ended = {state for state in JobState if state.has_ended}
    resumable = {state for state in JobState if state.is_resumable}
    unanswered = {state for state in JobState if state.is_unanswered}
    assert ended == {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    assert resumable == {JobState.QUEUED, JobState.PROCESSING, JobState.ABANDONED}
    assert unanswered == {JobState.SUBMITTING, JobState.UNCERTAIN}
    free = {JobState.PENDING, JobState.REJECTED}
    assert sorted([*ended, *resumable, *unanswered, *free]) == sorted(JobState)
