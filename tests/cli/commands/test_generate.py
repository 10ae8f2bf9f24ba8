"""`seedance generate`, against a real emulator."""

import json
from pathlib import Path

import av
import pytest

from seedance_async import GenerationRequest
from seedance_async.emulator import Fault
from tests.support.for_each import for_each


def test_a_prompt_becomes_a_video_and_its_path_is_printed(seedance, seedance_emulator):
    done = seedance("generate", "A river in autumn")
    (job,) = seedance_emulator.jobs.values()
    charged = seedance_emulator.ledger.credits_charged
    shown = f"job {job.request_id} is accepted, charged {charged} credits\n"
    assert (done.code, done.err) == (0, shown)
    assert done.out == f"{job.request_id}.mp4\n"
    with av.open(done.out.strip()) as video:
        assert video.streams.video[0].codec_context.name == "h264"


def test_every_option_reaches_the_server(seedance, seedance_emulator):
    done = seedance(
        *("generate", "A river", "--model", "seedance-2.0-fast", "--aspect-ratio", "9:16"),
        *("--media", "https://example.com/a.jpg", "--media", "https://example.com/b.mp3"),
        *("--duration", "8", "--resolution", "480p", "--metadata", '{"shot": 7}'),
        *("--webhook-url", f"{seedance_emulator.url}/hook", "-o", "new/folder/"),
    )
    assert done.code == 0
    assert Path(done.out.strip()).parent == Path("new/folder")
    (entry,) = seedance_emulator.ledger
    assert entry.body == {
        "prompt": "A river",
        "model": "seedance-2.0-fast",
        "aspectRatio": "9:16",
        "mediaUrls": ["https://example.com/a.jpg", "https://example.com/b.mp3"],
        "duration": 8,
        "resolution": "480p",
        "metadata": {"shot": 7},
        "webhookUrl": f"{seedance_emulator.url}/hook",
    }


def test_the_video_goes_to_the_file_that_is_named(seedance, seedance_emulator):
    done = seedance("generate", "A river", "-o", "made/river.mp4", "--json")
    (record,) = done.records
    assert record["file"] == "made/river.mp4"
    assert Path("made/river.mp4").stat().st_size > 1000
    assert record["state"] == "succeeded"
    assert record["error"] is record["next_step"] is None
    assert record["credits_charged"] == seedance_emulator.ledger.credits_charged


def test_an_existing_file_is_an_error_before_anything_is_paid(seedance, seedance_emulator):
    Path("river.mp4").write_text("mine")
    done = seedance("generate", "A river", "-o", "river.mp4")
    assert done.code == 2
    assert "river.mp4 exists; --overwrite replaces it" in done.err
    assert len(seedance_emulator.ledger) == 0
    assert seedance("generate", "A river", "-o", "river.mp4", "--overwrite").code == 0
    assert Path("river.mp4").stat().st_size > 1000


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
@pytest.mark.parametrize("output", ["file/x.mp4", "x" * 300 + ".mp4"])
def test_a_path_that_cannot_be_written_is_an_error_before_anything_is_paid(
    seedance, seedance_emulator, output, overwrite
):
    Path("file").write_text("no folder")
    done = seedance("generate", "A river", "-o", output, *overwrite)
    assert (done.code, len(seedance_emulator.ledger)) == (2, 0)
    assert "cannot be written" in done.err


@pytest.mark.parametrize("output", ["s3://bkt/x.mp4", "file:///tmp/", "S3+x://bkt"])
def test_a_bucket_is_no_path_and_nothing_is_paid(seedance, seedance_emulator, output):
    for command in (("generate", "A river"), ("status", "req_1")):
        done = seedance(*command, "-o", output)
        assert (done.code, len(seedance_emulator.ledger)) == (2, 0)
        assert f"{output} is no path on this machine" in done.err
        assert "seedance batch -o" in done.err
    assert [path.name for path in Path().iterdir() if ":" in path.name] == []


def test_a_file_that_is_named_like_standard_output_is_said_to_be_one(seedance, seedance_emulator):
    refused = seedance("generate", "A river", "-o", "-")
    assert (refused.code, len(seedance_emulator.ledger)) == (2, 0)
    assert seedance("generate", "A river", "-o", "./-").code == 0
    assert [path.name for path in Path().glob("-")] == ["-"]


def test_a_folder_without_write_access_is_an_error_before_anything_is_paid(
    seedance, seedance_emulator, monkeypatch
):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    done = seedance("generate", "A river")
    assert (done.code, len(seedance_emulator.ledger)) == (2, 0)


def test_without_download_the_url_is_printed(seedance, seedance_emulator):
    done = seedance("generate", "A river", "--no-download")
    assert done.code == 0
    assert done.out.startswith(f"{seedance_emulator.url}/media/")
    assert seedance_emulator.media_requests == []
    assert not list(Path().glob("*.mp4"))


def test_a_broken_rule_is_shown_and_nothing_is_sent(seedance, seedance_emulator):
    done = seedance("generate", " ", "--duration", "99")
    assert done.code == 2
    assert "prompt must not be blank" in done.err
    assert "duration must be 4 to 15 seconds" in done.err
    assert len(seedance_emulator.ledger) == 0


@for_each("text", ["{", "[1]", "[" * 100_000])
def test_metadata_must_be_a_json_object(seedance, text):
    done = seedance("generate", "A river", "--metadata", text)
    assert done.code == 2
    assert "--metadata" in done.err


def test_a_failed_generation_exits_with_1_and_says_why(seedance, seedance_emulator):
    seedance_emulator.faults.script("job", Fault("failed", message="The prompt is refused"))
    done = seedance("generate", "A river")
    assert (done.code, done.out) == (1, "")
    assert "the generation failed: The prompt is refused" in done.err


def test_no_key_exits_with_3(seedance):
    done = seedance("generate", "A river")
    assert done.code == 3
    assert "SEEDANCE_API_KEY" in done.err


def test_a_bad_base_url_exits_with_3(seedance, monkeypatch):
    monkeypatch.setenv("SEEDANCE_API_KEY", "sd2_live_secret")
    done = seedance("generate", "A river", "--base-url", "http://example.com")
    assert done.code == 3
    assert "base_url must be https://" in done.err


@pytest.mark.parametrize("kind", ["unauthorized", "no credits"])
def test_a_refused_key_and_missing_credits_exit_with_4(seedance, seedance_emulator, kind):
    if kind == "unauthorized":
        seedance_emulator.faults.script("submit", kind)
    else:
        seedance_emulator.accounts.by_header("Bearer sd2_live_emulator").balance = 0
    done = seedance("generate", "A river")
    assert done.code == 4
    assert ("Invalid API key" if kind == "unauthorized" else "credits needed") in done.err


def test_an_uncertain_submit_exits_with_5_and_says_what_to_do(seedance, seedance_emulator):
    seedance_emulator.faults.script("submit", "drop_after_accept")
    done = seedance("generate", "A river", "-o", "out/", "--json")
    assert done.code == 5
    assert "may have been accepted and charged" in done.err
    assert "dashboard" in done.err
    assert "seedance status --wait -o out REQUEST_ID" in done.err
    assert done.records[0]["state"] == "uncertain"
    assert len(seedance_emulator.ledger.charged) == 1


def test_a_job_that_outlives_the_timeout_exits_with_5_and_can_be_resumed(
    seedance, seedance_emulator
):
    seedance_emulator.faults.script("job", "stuck")
    done = seedance("generate", "A river", "--timeout", "0.2")
    (job,) = seedance_emulator.jobs.values()
    assert done.code == 5
    assert "the video may still come" in done.err
    assert f"What to do: seedance status --wait -o . {job.request_id}" in done.err


def test_a_failed_download_exits_with_6_and_says_how_to_repeat_it(seedance, seedance_emulator):
    seedance_emulator.faults.script("media", "gone", times=None)
    done = seedance("generate", "A river", "-o", "out/")
    (job,) = seedance_emulator.jobs.values()
    assert (done.code, done.out) == (6, "")
    assert "was not saved" in done.err
    seedance_emulator.faults.clear()
    line = next(line for line in done.err.splitlines() if "What to do: " in line)
    again = seedance(*line.partition("What to do: seedance ")[2].split())
    assert again.code == 0
    assert (Path("out") / f"{job.request_id}.mp4").stat().st_size > 1000


def test_verbose_shows_the_sdks_log_and_never_the_key(seedance, seedance_emulator):
    seedance_emulator.faults.script("poll", "unknown_status")
    seedance_emulator.faults.script(
        "poll", Fault("500", message=f"no job for {seedance_emulator.api_key}")
    )
    done = seedance("generate", "A river", "--verbose")
    assert done.code == 0
    assert "unknown status 'rendering'" in done.err
    assert "no job for " in done.err
    assert seedance_emulator.api_key not in done.err + done.out


def test_a_key_that_the_server_echoes_is_redacted(seedance, seedance_emulator):
    key = seedance_emulator.api_key
    seedance_emulator.faults.script("submit", Fault("unauthorized", message=f"{key} is bad"))
    done = seedance("generate", "A river", "--json")
    assert " is bad" in done.records[0]["error"]["message"]
    assert key not in done.out + done.err


def test_json_is_all_that_is_on_stdout(seedance, seedance_emulator):
    done = seedance("generate", "Fluß\n\x1b[31m", "--json")
    assert len(done.out.splitlines()) == 1
    assert json.loads(done.out)["prompt"] == "Fluß\n\x1b[31m"
    assert GenerationRequest("Fluß\n\x1b[31m").violations() == []
