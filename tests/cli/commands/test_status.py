"""`seedance status`, against a real emulator."""

from pathlib import Path

from seedance_async.emulator import Fault


def test_the_state_of_each_job_is_printed(seedance, accepted):
    good, stuck = accepted("good", "stuck")
    done = seedance("status", good, stuck)
    assert done.code == 0
    lines = sorted(done.out.splitlines(), key=len)
    assert lines[0] == f"{stuck} processing"
    assert lines[1].startswith(f"{good} succeeded http://127.0.0.1")


def test_videos_are_saved_in_the_given_folder(seedance, accepted):
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


def test_an_id_that_the_server_does_not_know_is_reported_at_once(seedance, seedance_emulator):
    done = seedance("status", "req_nobody", "--wait")
    assert (done.code, done.out) == (1, "req_nobody unknown\n")
    assert "404" in done.err


def test_what_cannot_be_an_id_is_bad_input(seedance, seedance_emulator):
    done = seedance("status", "..")
    assert done.code == 2
    assert "request_id must be a request id" in done.err


def test_a_refused_key_exits_with_4(seedance, seedance_emulator):
    seedance_emulator.faults.script("poll", "unauthorized", times=None)
    assert seedance("status", "req_1").code == 4


def test_waiting_ends_at_the_timeout(seedance, accepted):
    (stuck,) = accepted("stuck")
    done = seedance("status", stuck, "--wait", "--timeout", "0.2")
    assert (done.code, done.out) == (5, f"{stuck} abandoned\n")
    assert f"seedance status --wait -o . {stuck}" in done.err


def test_waiting_ends_with_the_job(seedance, seedance_emulator, accepted):
    (job,) = accepted("good")
    seedance_emulator.faults.script("poll", Fault("unknown_status", value="rendering"))
    done = seedance("status", job, job, "--wait", "-o", "out")
    assert (done.code, done.out) == (0, f"{job} succeeded out/{job}.mp4\n")
