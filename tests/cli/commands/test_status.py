"""`seedance status`, `cancel` and `models`, against a real emulator."""

from pathlib import Path

import pytest

from seedance_async.cli.commands import jobs
from seedance_async.cli.runs.advice import Advice
from seedance_async.emulator import Fault


@pytest.fixture
def accepted(seedance, seedance_emulator):
    """Submit prompts and leave the jobs running; their ids."""

    def submit(*prompts):
        seedance_emulator.faults.script("job", "stuck", match="stuck", times=None)
        for prompt in prompts:
            seedance("generate", prompt, "--no-download", "--timeout", "0.2")
        return [job.request_id for job in seedance_emulator.jobs.values()]

    return submit


def test_the_state_of_each_job_is_told_as_it_is(seedance, accepted):
    good, stuck = accepted("good", "stuck")
    done = seedance("status", good, stuck)
    assert done.code == 0
    lines = sorted(done.out.splitlines(), key=len)
    assert lines[0] == f"{stuck} processing"
    assert lines[1].startswith(f"{good} succeeded http://127.0.0.1")


def test_videos_are_saved_where_a_folder_is_given(seedance, accepted):
    (good,) = accepted("good")
    done = seedance("status", good, "-o", "new/out", "--json")
    assert done.code == 0
    (record,) = done.records
    assert record["file"] == str(Path("new/out") / f"{good}.mp4")
    assert Path(record["file"]).stat().st_size > 1000
    again = seedance("status", good, "-o", "new/out")
    assert again.code == 6
    assert "a file is there" in again.err
    assert f"What to do: seedance status -o new/out {good}" in again.err


def test_a_folder_that_cannot_be_made_is_bad_input(seedance, seedance_emulator):
    Path("file").write_text("")
    assert seedance("status", "req_1", "-o", "file/out").code == 2


def test_a_failed_job_exits_with_1_and_its_reason(seedance, seedance_emulator, accepted):
    seedance_emulator.faults.script("job", Fault("failed", message="Too dull"))
    (failed,) = accepted("dull")
    done = seedance("status", failed)
    assert (done.code, done.out) == (1, f"{failed} failed\n")
    assert "Too dull" in done.err


def test_an_id_that_the_server_does_not_know_is_told_at_once(seedance, seedance_emulator):
    done = seedance("status", "req_nobody", "--wait")
    assert (done.code, done.out) == (1, "req_nobody unknown\n")
    assert "404" in done.err


def test_what_cannot_be_an_id_is_bad_input(seedance, seedance_emulator):
    done = seedance("status", "..")
    assert done.code == 2
    assert "request_id cannot be one" in done.err


def test_a_refused_key_exits_with_4(seedance, seedance_emulator):
    seedance_emulator.faults.script("poll", "unauthorized", times=None)
    assert seedance("status", "req_1").code == 4


def test_waiting_has_an_end_of_its_own(seedance, accepted):
    (stuck,) = accepted("stuck")
    done = seedance("status", stuck, "--wait", "--timeout", "0.2")
    assert (done.code, done.out) == (5, f"{stuck} abandoned\n")
    assert f"seedance status --wait -o . {stuck}" in done.err


def test_waiting_for_a_job_that_ends_tells_its_end(seedance, seedance_emulator, accepted):
    (job,) = accepted("good")
    seedance_emulator.faults.script("poll", Fault("unknown_status", value="rendering"))
    done = seedance("status", job, job, "--wait", "-o", "out")
    assert (done.code, done.out) == (0, f"{job} succeeded out/{job}.mp4\n")


def test_a_running_job_is_cancelled(seedance, seedance_emulator, accepted):
    (stuck,) = accepted("stuck")
    done = seedance("cancel", stuck)
    assert (done.code, done.out) == (0, f"{stuck} cancelled\n")
    assert seedance_emulator.jobs[stuck].status == "cancelled"
    assert seedance("cancel", stuck, "--json").records[0]["state"] == "cancelled"


def test_a_job_that_has_ended_cannot_be_cancelled_and_that_is_told(seedance, accepted):
    (good,) = accepted("good")
    done = seedance("cancel", good)
    assert done.code == 1
    assert done.out.startswith(f"{good} succeeded")


def test_cancelling_what_nobody_knows_fails(seedance, seedance_emulator):
    assert seedance("cancel", "req_nobody").code == 1


def test_a_cancellation_that_does_not_show_is_told_as_unknown(
    seedance, seedance_emulator, accepted, monkeypatch
):
    (stuck,) = accepted("stuck")
    monkeypatch.setattr(jobs, "_CANCEL_PATIENCE", 0.2)
    seedance_emulator.faults.script("cancel", "not_found", times=None)
    assert seedance("cancel", stuck).code == 5


def test_models_are_listed(seedance, seedance_emulator):
    done = seedance("models")
    assert done.code == 0
    assert "seedance-2.0-fast  4, 5, 6" in done.out
    assert "16:9 9:16 1:1  480p 720p 1080p" in done.out
    assert seedance("models", "--json").records[0]["id"] == "seedance-2.0"


def test_an_entry_that_says_nothing_is_listed_too(seedance, seedance_emulator):
    seedance_emulator.faults.script("models", "null_fields")
    assert seedance("models").code == 0


def test_an_id_that_looks_like_an_option_can_be_copied_into_a_shell():
    assert Advice().fetch(["-x", "a b"]) == "seedance status -o . -- -x 'a b'"
