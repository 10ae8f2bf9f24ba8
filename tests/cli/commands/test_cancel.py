"""`seedance cancel`, against a real emulator."""

from seedance_async.cli.commands import cancel


def test_a_running_job_is_cancelled(seedance, seedance_emulator, accepted):
    (stuck,) = accepted("stuck")
    done = seedance("cancel", stuck)
    assert (done.code, done.out) == (0, f"{stuck} cancelled\n")
    assert seedance_emulator.jobs[stuck].status == "cancelled"
    assert seedance("cancel", stuck, "--json").records[0]["state"] == "cancelled"


def test_a_job_that_has_ended_cannot_be_cancelled(seedance, accepted):
    (good,) = accepted("good")
    done = seedance("cancel", good)
    assert done.code == 1
    assert done.out.startswith(f"{good} succeeded")


def test_cancelling_an_unknown_job_fails(seedance, seedance_emulator):
    assert seedance("cancel", "req_nobody").code == 1


def test_a_cancellation_that_does_not_show_in_time_exits_with_5(
    seedance, seedance_emulator, accepted, monkeypatch
):
    (stuck,) = accepted("stuck")
    monkeypatch.setattr(cancel, "TIMEOUT", 0.2)
    seedance_emulator.faults.script("cancel", "not_found", times=None)
    assert seedance("cancel", stuck).code == 5
