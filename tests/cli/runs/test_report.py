"""The summary of a run: what went wrong, what to do, and the headline last."""

from pathlib import Path

from seedance_async import (
    AuthenticationError,
    BadRequestError,
    ErrorDetail,
    Generation,
    GenerationRequest,
    GenerationStatus,
    InsufficientCreditsError,
    Job,
    JobState,
    JobTimeoutError,
    MediaUploadError,
    UnreachableError,
)
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import EarlierRunError, InterruptedRunError
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.next_steps import NextSteps
from seedance_async.cli.runs.outcome import Outcome
from seedance_async.cli.runs.report import Report, ranges
from seedance_async.jobs.registry import JobRecord
from tests.support.for_each import for_each

STEPS = NextSteps(Path("videos"), Path("videos/run.db"))
KEY_REFUSED = AuthenticationError(401, "Invalid API key", code="unauthorized")


def shown(capsys, *outcomes, steps=STEPS):
    report = Report(steps, source="prompts.txt")
    for outcome in outcomes:
        report.add(outcome)
    report.show(Screen(), 83.0)
    return capsys.readouterr().err.splitlines()


def refused(number, error, state="rejected"):
    request = GenerationRequest(f"prompt {number}")
    return Outcome(line=number, state=state, request=request, prompt=request.prompt, error=error)


def failed(number, code, message):
    request = GenerationRequest(f"prompt {number}")
    error = ErrorDetail(message, code)
    generation = Generation(f"req_{number}", GenerationStatus.FAILED, error=error)
    record = JobRecord(f"k{number}", request, JobState.FAILED, f"req_{number}", 40, generation)
    return Outcome.of_job(Job(record, None), Line(number, request), next_steps=STEPS)


def test_twenty_equal_refusals_of_a_key_are_one_with_what_to_do(capsys):
    lines = shown(
        capsys,
        *(refused(n, KEY_REFUSED) for n in range(1, 21)),
        *(refused(n, KEY_REFUSED, "not_submitted") for n in (21, 22)),
    )
    assert lines == [
        "22 lines of prompts.txt rejected or not submitted, nothing charged:",
        "  lines 1-22: HTTP 401 unauthorized: Invalid API key",
        "    What to do: set SEEDANCE_API_KEY to a key that this API accepts, and run again",
        "0 credits charged, as reported by the server",
        "22 lines of prompts.txt in 1:23: 20 rejected, 2 not submitted, 0 videos saved",
    ]


def test_failures_are_grouped_by_reason_with_what_to_do_about_each(capsys):
    lines = shown(
        capsys,
        failed(1, "content_moderation", "The prompt was refused"),
        failed(3, "content_moderation", "The prompt was refused"),
        failed(4, "generation_failed", "The generation failed"),
    )
    assert lines[:6] == [
        "3 lines of prompts.txt failed, 120 credits charged:",
        "  lines 1, 3: The prompt was refused",
        "    What to do: moderation: change the prompt or the media, run again (a new job, "
        "paid for anew)",
        "  line 4 req_4 “prompt 4”: The generation failed",
        "    What to do: to buy it again as it is: seedance reroll videos 4",
        "120 credits charged, as reported by the server",
    ]


def test_the_headline_is_the_last_line(capsys):
    good = Outcome(line=1, state="succeeded", file=Path("1.mp4"), credits_charged=40)
    lines = shown(capsys, good, failed(2, None, "no"))
    assert lines[-1] == "2 lines of prompts.txt in 1:23: 1 succeeded, 1 failed, 1 video saved"


def test_jobs_that_go_on_after_ctrl_c_are_still_running_and_not_abandoned(capsys):
    error = InterruptedRunError("the run was interrupted; the job goes on at the server")
    lines = shown(
        capsys, Outcome(line=3, state="abandoned", request_id="req_3", prompt="a", error=error)
    )
    assert lines[:3] == [
        "1 job goes on at the server, and can be resumed:",
        "  line 3 req_3 “a”",
        "    To resume: seedance resume videos",
    ]
    assert lines[-1].endswith("1 still running, 0 videos saved")
    assert "abandoned" not in "\n".join(lines)


def test_a_job_that_took_too_long_is_abandoned(capsys):
    job = Job(JobRecord("k", None, JobState.ABANDONED, "req_3"), None)
    error = JobTimeoutError("the session stopped waiting", job=job)
    outcome = Outcome(line=3, state="abandoned", request_id="req_3", prompt="a", error=error)
    lines = shown(capsys, outcome)
    assert lines[0].startswith("1 job abandoned: no longer waited for, but it may still succeed")
    assert lines[1] == "  line 3 req_3 “a”: the session stopped waiting"


@for_each(
    ("error", "remedy"),
    [
        (BadRequestError(400, "violates our content policy"), "moderation: change the prompt"),
        (AuthenticationError(403, "blocked", code="content_moderation"), "moderation: change"),
        (AuthenticationError(403, "not yours", code="forbidden"), "the key may not do this"),
        (MediaUploadError("moderation.jpg", "no such bucket"), "see to the file or the bucket"),
        (InsufficientCreditsError(402, "no credits"), "add credits to the account"),
        (UnreachableError("refused", base_url="http://127.0.0.1:9"), "run again later"),
        (BadRequestError(400, "duration must be 4", code="bad"), "correct it, and run again"),
        (InterruptedRunError("interrupted"), "run again to submit what was not submitted"),
    ],
)
def test_each_kind_of_refusal_has_a_remedy(error, remedy, capsys):
    lines = shown(capsys, refused(1, error))
    assert lines[2].startswith(f"    What to do: {remedy}")


def test_a_failure_of_an_earlier_run_has_its_remedy_too(capsys):
    error = EarlierRunError("the generation failed in an earlier run: refused by moderation")
    lines = shown(capsys, refused(1, error, "failed"))
    assert lines[2].startswith("    What to do: moderation: change the prompt")


def test_ranges_of_lines():
    assert ranges([3, 1, 2, 7, 9, 10]) == ["1-3", "7", "9-10"]


def test_very_many_lines_with_one_reason_are_named_by_the_first(capsys):
    lines = shown(capsys, *(refused(n, KEY_REFUSED) for n in range(1, 41, 2)))
    assert lines[1].startswith("  lines 1, 3, 5, 7, 9, 11, 13, 15, 17, 19 … and 10 more: HTTP 401")
