"""`--events`: what happens in a session, as JSON."""

import json
import math
from pathlib import Path

import pytest

from seedance_async import BadRequestError, GenerationRequest, JobRejected, LimitsChanged
from seedance_async.cli.console import Screen
from seedance_async.cli.live.event_log import EventLog, as_record

KEY = "sd2_live_emulator"


def events(text):
    return [json.loads(line) for line in text.splitlines()]


def test_every_event_is_a_line_with_its_fields(seedance, seedance_emulator):
    seedance_emulator.faults.script("job", "failed", match="fox")
    Path("prompts.txt").write_text("A river\nA fox\n")
    done = seedance("batch", "prompts.txt", "--events", "events.ndjson")
    assert done.code == 1
    assert done.out == ""
    text = Path("events.ndjson").read_text()
    assert KEY not in text
    told = events(text)
    of_river = [each for each in told if each["request"]["prompt"] == "A river"]
    assert [each["event"] for each in of_river][:2] == ["JobSubmitted", "JobAccepted"]
    assert [each["event"] for each in of_river][-2:] == ["JobSucceeded", "VideoSaved"]
    saved = of_river[-1]
    assert set(saved) == {
        "event", "time", "at", "key", "request_id", "credits_charged", "seconds", "request",
        "path", "size", "url",
    }  # fmt: skip
    assert Path(saved["path"]).stat().st_size == saved["size"]
    assert saved["credits_charged"] == 40
    assert saved["time"].endswith("+00:00")
    (failed,) = (each for each in told if each["event"] == "JobFailed")
    assert failed["reason"]["code"] == "content_moderation"


def test_a_second_run_appends_to_the_file(seedance, seedance_emulator):
    for prompt in ("A river", "A fox"):
        assert seedance("generate", prompt, "--events", "events.ndjson").code == 0
    told = events(Path("events.ndjson").read_text())
    assert [each["event"] for each in told].count("VideoSaved") == 2


def test_events_on_stdout_have_it_to_themselves(seedance, seedance_emulator):
    done = seedance("generate", "A river", "--events", "-")
    told = events(done.out)
    assert told[-1]["event"] == "VideoSaved"
    assert told[-1]["path"] in done.err
    assert KEY not in done.out
    both = seedance("generate", "A river", "--events", "-", "--json")
    assert both.code == 2


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_sent(
    seedance, seedance_emulator
):
    assert seedance("generate", "A river", "--events", "missing/events.ndjson").code == 2
    assert len(seedance_emulator.ledger) == 0


def test_the_key_is_redacted_in_what_a_server_says(monkeypatch, tmp_path):
    monkeypatch.setenv("SEEDANCE_API_KEY", KEY)
    with (tmp_path / "events").open("w") as file:
        log = EventLog(Screen(), file)
        error = BadRequestError(400, f"no such key: {KEY}", code="bad")
        log.hear(JobRejected(at=1.0, key="k", request=GenerationRequest("a"), error=error))
        log.close()
    (told,) = events((tmp_path / "events").read_text())
    assert told["error"] == {
        "type": "BadRequestError", "message": "HTTP 400 bad: no such key: ***", "status": 400,
        "code": "bad", "retry_after": None,
    }  # fmt: skip


def test_a_hold_without_an_end_is_json_as_well(tmp_path):
    event = LimitsChanged(
        at=1.0, operation="submit", held_for=math.inf, rate=None, limit=3, noise=0.0
    )
    told = json.loads(json.dumps(as_record(event), allow_nan=False))
    assert (told["held_for"], told["limit"]) == (None, 3)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk")
def test_a_full_disk_ends_the_log_and_not_the_run(seedance, seedance_emulator):
    done = seedance("generate", "A river", "--events", "/dev/full")
    assert done.code == 0
    assert done.err.count("events are no longer written: ") == 1


def test_media_on_this_machine_are_shown_by_name(seedance, seedance_emulator):
    Path("river.jpg").write_bytes(b"\xff\xd8\xff\xe0" + b"0" * 100)
    done = seedance("generate", "A river", "--media", "river.jpg", "--events", "events.ndjson")
    told = events(Path("events.ndjson").read_text())
    assert done.code == 0, done.err
    assert told[0]["request"]["mediaUrls"][0].endswith("river.jpg")
