"""The SDK against the emulator: real HTTP, real files, and the emulator's own books."""

import asyncio
import os
import pickle
import sys

import av
import pytest

from seedance_async import (
    AuthenticationError,
    DownloadError,
    GenerationFailedError,
    GenerationRequest,
    GenerationStatus,
    InvalidRequestError,
    JobState,
    SeedanceClient,
    SeedanceSession,
    Timeouts,
)
from seedance_async.emulator import Emulator, EmulatorOptions, Fault
from tests.conftest import QUICK_POLL, QUICK_RETRY
from tests.support.emulator_process import emulator_process

SEED = 7
SMALL = {"duration": 4, "resolution": "480p"}


def requests(count):
    return [GenerationRequest(f"prompt {number}", **SMALL) for number in range(count)]


def session_to(emulator, **options):
    options.setdefault("poll", QUICK_POLL)
    options.setdefault("poll_rate", 2000.0)
    options.setdefault("retry", QUICK_RETRY)
    options.setdefault("timeouts", Timeouts(submit=10, request=10))
    return SeedanceSession(base_url=emulator.url, api_key=emulator.api_key, **options)


@pytest.fixture
def start():
    def make(**options):
        options = {"speed": 2000, "seed": SEED, "media": "shared"} | options
        return Emulator(EmulatorOptions(**options))

    return make


# --- the main path -------------------------------------------------------------------------------


async def test_a_prompt_becomes_a_file_that_plays(start, tmp_path):
    async with start(media="rendered") as emulator, session_to(emulator) as session:
        request = GenerationRequest("A river in autumn", **SMALL, aspect_ratio="9:16")
        job = await session.submit(request)
        path = await job.download(tmp_path / "river.mp4")
        assert not any(r.carried_credentials for r in emulator.media_requests)
    with av.open(path) as video:
        stream = video.streams.video[0]
        frames = sum(1 for _ in video.decode(stream))
    assert stream.codec_context.name == "h264"
    assert (stream.codec_context.width, stream.codec_context.height) == (480, 854)
    assert frames == 4 * 24


async def test_all_four_modes_are_accepted(start):
    async with start() as emulator, session_to(emulator) as session:
        media = [emulator.media_url(name) for name in ("photo.jpg", "last.jpg", "clip.mp4")]
        batch = await session.run(
            GenerationRequest("A fox", media_urls=urls, **SMALL)
            for urls in ([], media[:1], media[:2], media)
        )
        assert [job.request.mode for job in batch] == [
            "text", "first_frame", "first_and_last_frame", "multimodal",
        ]  # fmt: skip
        assert batch.counts == {JobState.SUCCEEDED: 4}
        assert batch.credits_charged == emulator.ledger.credits_charged


async def test_models_are_listed(start):
    async with start() as emulator, SeedanceClient(emulator.api_key, emulator.url) as client:
        models = {model.id: model for model in await client.models()}
    assert set(models) == {"seedance-2.0", "seedance-2.0-fast", "seedance-1.5-pro"}
    assert models["seedance-2.0"].raw


async def test_the_emulator_and_the_sdk_agree_on_every_rule(start):
    """What the SDK refuses, the emulator's own contract refuses too, and the other way round."""
    broken = [
        GenerationRequest(" "),
        GenerationRequest("x", duration=3),
        GenerationRequest("x", duration=16),
        GenerationRequest("x", model="seedance-1.5-pro", duration=6),
        GenerationRequest("x", aspect_ratio="4:3"),
        GenerationRequest("x", resolution="4k"),
        GenerationRequest("x", media_urls=["https://example.com/a.jpg"] * 6),
        GenerationRequest("x", media_urls=["ftp://example.com/a.jpg"]),
    ]
    async with start() as emulator, SeedanceClient(emulator.api_key, emulator.url) as client:
        for request in broken:
            with pytest.raises(InvalidRequestError):
                await client.create(request)
        assert emulator.requests.count("submit") == 0


async def test_a_wrong_key_is_an_authentication_error_with_the_documented_words(start):
    async with start() as emulator, SeedanceClient("sd2_live_wrong", emulator.url) as client:
        with pytest.raises(AuthenticationError, match="Invalid API key") as caught:
            await client.create(GenerationRequest("x"))
        assert caught.value.code == "unauthorized"
        assert "sd2_live_wrong" not in repr(caught.value)


async def test_cancelling_ends_the_job_on_the_server(start):
    async with start(hold=True) as emulator, session_to(emulator) as session:
        job = await session.submit(GenerationRequest("x"))
        await job.cancel()
        with pytest.raises(Exception, match="cancelled") as caught:
            await job
        assert emulator.jobs[job.request_id].status == "cancelled"
        again = pickle.loads(pickle.dumps(caught.value))
        assert (again.request_id, again.job.state) == (job.request_id, "cancelled")
        assert str(again) == str(caught.value)


# --- faults --------------------------------------------------------------------------------------


async def test_dropped_answers_charge_no_prompt_twice_and_are_all_reported(start):
    """A fifth of the answers to submits is lost after the job was accepted and charged."""
    faults = {"drop_after_accept": 0.2}
    async with start(submit_faults=faults) as emulator, session_to(emulator) as session:
        batch = await session.run(requests(300))
        charged = emulator.ledger.charged_prompts()
        unanswered = {entry.prompt for entry in emulator.ledger if not entry.answered}
    assert max(charged.values()) == 1
    assert len(charged) == 300
    assert {job.request.prompt for job in batch.uncertain} == unanswered
    assert 30 < len(unanswered) < 90
    assert batch.counts[JobState.SUCCEEDED] == 300 - len(unanswered)


#: What can befall a submit; with `accepted` the job is taken and charged behind the fault.
SUBMIT_FAULTS = [
    *(Fault(kind, reset=reset) for kind in ("drop_before_read", "drop_before_accept",
                                            "drop_after_accept") for reset in (False, True)),
    *(Fault(kind, accepted=accepted) for kind in ("500", "502", "503", "504", "html", "redirect")
      for accepted in (False, True)),
    *(Fault("truncated", at=at, framing=framing) for at in (5, 50, 60, 70, 80)
      for framing in ("length", "chunked", "ended", "close")),
    *(Fault("rate_limited", retry_after=0, retry_form=form) for form in ("seconds", "date",
                                                                        "garbage", "absent")),
    *(Fault(kind) for kind in ("huge_body", "huge_headers", "gzip_bomb", "missing_request_id",
                               "duplicate_request_id", "bad_credits", "wrong_content_type",
                               "unknown_status", "odd_case", "extra_fields", "evil_request_id")),
    Fault("503_refused", retry_after=0),
]  # fmt: skip


async def test_under_every_fault_of_a_submit_no_prompt_is_paid_twice_and_none_is_lost(start):
    """Whatever is charged is either a job with its true id or an uncertain submit, once."""
    rate = 0.9 / len(SUBMIT_FAULTS)
    async with start() as emulator, session_to(emulator) as session:
        await session.generate(GenerationRequest("the one whose id is given out again"))
        emulator.faults.set_rates("submit", dict.fromkeys(SUBMIT_FAULTS, rate))
        batch = await session.run(requests(600))
        charged = {e.prompt: e.request_id for e in emulator.ledger if e.outcome == "charged"}
        assert max(emulator.ledger.charged_prompts().values()) == 1
        for kind in {fault.kind for fault in SUBMIT_FAULTS}:
            assert emulator.requests.fault_count("submit", kind), f"{kind} was not met"
    uncertain = {job.request.prompt for job in batch.uncertain}
    for job in batch.succeeded:
        assert charged[job.request.prompt] == job.request_id
    known = {job.request.prompt for job in batch.succeeded}
    assert {prompt for prompt in charged if prompt.startswith("prompt ")} <= known | uncertain
    assert set(batch.counts) == {JobState.SUCCEEDED, JobState.UNCERTAIN}


async def test_under_every_fault_of_a_poll_each_job_reaches_its_end(start):
    kinds = [
        "drop_before_read", "drop_before_accept", "rate_limited", "500", "502", "503", "504",
        "html", "truncated", "missing_request_id", "unknown_status", "odd_case", "regressed",
        "extra_fields", "missing_fields", "null_fields", "not_found", "gzip_bomb", "huge_body",
    ]  # fmt: skip
    async with start() as emulator, session_to(emulator, max_in_flight=100) as session:
        faults = (Fault(kind, retry_after=0) for kind in kinds)
        emulator.faults.set_rates("poll", dict.fromkeys(faults, 0.03))
        batch = await session.run(requests(150))
    assert batch.counts == {JobState.SUCCEEDED: 150}


async def test_a_job_that_the_service_fails_reports_why(start):
    async with start() as emulator, session_to(emulator) as session:
        emulator.faults.script("job", Fault("failed", code="moderation", message="not this"))
        with pytest.raises(GenerationFailedError, match="not this") as caught:
            await session.generate(GenerationRequest("x"))
        assert caught.value.generation.status is GenerationStatus.FAILED


@pytest.mark.parametrize(
    "kind", ["truncated", "expired", "not_found", "gone", "html", "500", "redirect", "etag_changed"]
)
async def test_each_fault_of_a_download_is_recovered_from(start, tmp_path, kind):
    async with start() as emulator, session_to(emulator) as session:
        job = await session.submit(GenerationRequest("x", **SMALL))
        generation = await job
        fault = Fault(kind, value=generation.output_url) if kind == "redirect" else Fault(kind)
        emulator.faults.script("media", fault)
        path = await job.download(tmp_path / "x.mp4")
        assert emulator.requests.fault_count("media", kind) == 1
        assert len(emulator.ledger) == 1
    with av.open(path) as video:
        assert sum(1 for _ in video.decode(video.streams.video[0])) == 4 * 24


async def test_a_failed_download_is_not_a_failed_generation(start, tmp_path):
    async with start() as emulator, session_to(emulator) as session:
        job = await session.submit(GenerationRequest("x", **SMALL))
        emulator.faults.script("media", "expired", times=2)
        with pytest.raises(DownloadError, match="fresh URL"):
            await job.download(tmp_path / "x.mp4")
        assert job.state is JobState.SUCCEEDED
        assert (await job.download(tmp_path)).stat().st_size > 1000
        assert len(emulator.ledger) == 1


# --- load ----------------------------------------------------------------------------------------


async def test_two_thousand_jobs_go_through_one_session_to_their_end():
    """In another process, so that the emulator's records are its own; with refusals by it."""
    options = {"speed": 2000, "gpus": 500, "media": "shared", "seed": SEED}
    async with emulator_process(**options) as emulator:
        async with session_to(emulator, max_in_flight=64) as session:
            batch = await session.run(requests(2000))
            stats = session.stats()
        told, ledger = await emulator.stats(), await emulator.ledger()
    assert batch.counts == {JobState.SUCCEEDED: 2000}
    assert told["by_status"] == {"succeeded": 2000}
    assert told["peak_active"] <= 64
    assert told["duplicates"] == {}
    assert told["charged"] == len(ledger) == 2000
    assert batch.credits_charged == stats.credits_charged == told["credits_charged"]


PROGRAM = """
import asyncio, os
from seedance_async import Backoff, GenerationRequest, SeedanceSession

async def main():
    poll = Backoff(initial=0.05, maximum=0.5)
    async with SeedanceSession(max_in_flight=50, poll=poll, poll_rate=2000) as session:
        batch = await session.run(GenerationRequest(f"p {n}") for n in range(200))
        batch.raise_for_failures()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    print(len(batch.succeeded))

asyncio.run(main(), debug=True)
"""


async def test_a_program_ends_without_a_warning_or_a_task_left():
    async with emulator_process(speed=2000, gpus=50, media="shared", seed=SEED) as emulator:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM,
            env=os.environ | {"SEEDANCE_BASE_URL": emulator.url,
                              "SEEDANCE_API_KEY": emulator.api_key,
                              "PYTHONASYNCIODEBUG": "0"},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
    assert (out.decode().strip(), process.returncode) == ("200", 0)
    slow = [line for line in err.decode().splitlines() if not line.startswith("Executing <")]
    assert slow == []
