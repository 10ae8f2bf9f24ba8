"""`seedance journal forget` and `adopt`: what a person decides about a journal."""

from pathlib import Path

import pytest

from seedance_async.emulator import Fault
from seedance_async.journal import read_entries
from tests.cli.conftest import JOURNAL, entries, results, write_prompts


def id_of(seedance_emulator, prompt):
    charged = seedance_emulator.ledger.charged
    return next(entry.request_id for entry in charged if entry.prompt == prompt)


# --- forget ---------------------------------------------------------------------------------------


def test_a_forgotten_job_is_submitted_and_paid_for_again(
    seedance, seedance_emulator, key, monkeypatch
):
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda text: "y")
    first = read_entries(JOURNAL)[0]
    done = seedance("journal", "forget", first.key)
    assert done.code == 0
    assert "The same batch will submit, and pay for, 1 job again." in done.err
    assert f"{first.key} succeeded {first.request_id} “prompt 1”" in done.err
    assert seedance("batch", "prompts.txt").code == 5
    assert seedance_emulator.ledger.charged_prompts()["prompt 1"] == 2


def charged(emulator):
    return sum(entry.credits for entry in emulator.ledger.charged)


def test_what_a_forgotten_job_cost_still_counts_for_the_limit(seedance, seedance_emulator, key):
    spent = charged(seedance_emulator)
    for entry in entries():
        assert seedance("journal", "forget", "--yes", "--force", entry.key).code == 0
    limit = str(spent + spent // 3)
    assert seedance("batch", "prompts.txt", "--max-credits", limit).code == 4
    assert charged(seedance_emulator) <= int(limit)


@pytest.mark.parametrize("place", [("videos",), ("videos/run.db",), ("--journal", "videos")])
def test_the_folder_may_come_before_the_keys_or_as_an_option(seedance, key, place):
    first, second, third = (entry.key for entry in read_entries(JOURNAL))
    assert seedance("journal", "forget", "--yes", "--force", *place, first, second).code == 0
    assert [entry.key for entry in read_entries(JOURNAL)] == [third]
    assert len(seedance("journal", "export", *place).records) == 1
    assert seedance("journal", "show", *place, "--json").records[0]["key"] == third
    adopted = seedance("journal", "adopt", *place, "nobody", "req_1")
    assert "videos/run.db has no job with the key nobody" in adopted.err


def test_the_journal_is_named_once(seedance, key):
    assert seedance("journal", "show", "videos", "--journal", "videos").code == 2
    assert seedance("journal", "adopt", key).code == 2
    assert seedance("journal", "adopt", "--journal", "videos", "videos", key, "req_1").code == 2


def test_without_a_yes_nothing_is_forgotten(seedance, key, monkeypatch):
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda text: "n")
    before = read_entries(JOURNAL)
    done = seedance("journal", "forget", before[0].key)
    assert done.code == 1
    assert "Nothing was forgotten." in done.err
    assert read_entries(JOURNAL) == before


def test_a_job_that_may_be_running_or_charged_is_forgotten_only_with_force(seedance, key):
    first = read_entries(JOURNAL)[0].key
    done = seedance("journal", "forget", "--yes", first, key)
    assert done.code == 2
    assert f"{key} is uncertain: it may be running and paid for" in done.err
    assert len(read_entries(JOURNAL)) == 3, "none of them, if one is refused"
    done = seedance("journal", "forget", "--yes", "--force", first, key, first)
    assert done.code == 0
    assert not {first, key} & {entry.key for entry in read_entries(JOURNAL)}
    assert "2 jobs forgotten." in done.err


def test_with_an_unknown_key_nothing_is_forgotten(seedance, key):
    done = seedance("journal", "forget", "--yes", read_entries(JOURNAL)[0].key, "nobody")
    assert done.code == 2
    assert "videos/run.db has no job with the key nobody; nothing was changed" in done.err
    assert len(read_entries(JOURNAL)) == 3


# --- adopt ----------------------------------------------------------------------------------------


def test_the_id_from_the_dashboard_settles_an_uncertain_entry(seedance, seedance_emulator, key):
    job = id_of(seedance_emulator, "prompt 2")
    assert seedance("status", job, "--wait").code == 0
    done = seedance("journal", "adopt", key, job)
    assert (done.code, done.err) == (0, f"{key} is job {job}, succeeded.\n")
    assert seedance("resume").code == 0
    assert Path(f"videos/{job}.mp4").exists()
    assert seedance("batch", "prompts.txt").code == 0
    assert results()[2]["request_id"] == job
    assert len(seedance_emulator.ledger) == 3


def test_a_failed_job_is_adopted_with_its_reason(seedance, seedance_emulator):
    write_prompts(1)
    seedance_emulator.faults.script("submit", "drop_after_accept")
    seedance_emulator.faults.script("job", "failed")
    assert seedance("batch", "prompts.txt").code == 5
    (entry,), job = entries(), id_of(seedance_emulator, "prompt 1")
    assert seedance("status", job, "--wait").code == 1
    assert seedance("journal", "adopt", entry.key, job).code == 0
    (entry,) = entries()
    assert entry.state == "failed"
    assert entry.error
    done = seedance("batch", "prompts.txt")
    assert done.code == 1
    assert entry.error in done.err


def test_a_job_whose_prompt_the_server_trims_is_adopted(seedance, seedance_emulator):
    """Else nothing would be left but to pay again."""
    Path("prompts.txt").write_text("A river  in autumn, seen from a slow boat at dawn, in the rain")
    seedance_emulator.faults.script("submit", "drop_after_accept")
    assert seedance("batch", "prompts.txt").code == 5
    (entry,) = entries()
    (job,) = seedance_emulator.jobs
    seedance_emulator.faults.script("poll", Fault("trimmed_prompt", value=45))
    assert seedance("journal", "adopt", entry.key, job).code == 0


def test_with_any_prompt_the_job_of_another_entry_is_still_not_adopted(
    seedance, seedance_emulator, key
):
    job = id_of(seedance_emulator, "prompt 1")
    done = seedance("journal", "adopt", "--any-prompt", key, job)
    assert done.code != 0
    assert f"the request id '{job}' is that of the entry" in done.err


def test_a_job_with_another_prompt_is_not_adopted(seedance, seedance_emulator, key):
    job = id_of(seedance_emulator, "prompt 1")
    done = seedance("journal", "adopt", key, job)
    assert done.code == 2
    assert f"the prompt of {job} is “prompt 1”, that of the entry “prompt 2”" in done.err
    assert entries(state="uncertain")


def test_a_job_that_another_entry_has_is_not_adopted(seedance, seedance_emulator):
    Path("prompts.txt").write_text("same\nsame\n")
    seedance_emulator.faults.script("submit", "drop_after_accept")
    assert seedance("batch", "prompts.txt", "--max-in-flight", "1").code == 5
    (uncertain,), (other,) = entries(state="uncertain"), entries(state="succeeded")
    done = seedance("journal", "adopt", uncertain.key, other.request_id)
    assert done.code not in (0, 5)
    assert f"is that of the entry with key '{other.key}'" in done.err
    assert entries(state="uncertain")


@pytest.mark.parametrize(
    ("request_id", "code", "message"),
    [("req_nobody", 1, "HTTP 404"), (" ", 2, "' ' cannot be a request id")],
)
def test_a_job_that_the_server_does_not_know_is_not_adopted(
    seedance, seedance_emulator, key, request_id, code, message
):
    done = seedance("journal", "adopt", key, request_id)
    assert done.code == code
    assert message in done.err
    assert entries(state="uncertain")


def test_only_an_uncertain_entry_can_be_settled(seedance, seedance_emulator, key):
    first = read_entries(JOURNAL)[0]
    done = seedance("journal", "adopt", first.key, id_of(seedance_emulator, "prompt 2"))
    assert done.code == 2
    assert f"{first.key} is succeeded, not uncertain; nothing was changed" in done.err
    assert seedance("journal", "adopt", "nobody", first.request_id).code == 2


def test_an_entry_that_has_changed_since_it_was_shown_is_left_alone(
    seedance, seedance_emulator, key, monkeypatch
):
    job = id_of(seedance_emulator, "prompt 2")
    stale = read_entries(JOURNAL)
    assert seedance("journal", "adopt", key, job).code == 0
    monkeypatch.setattr("seedance_async.cli.commands.journal_edit.read_entries", lambda path: stale)
    done = seedance("journal", "adopt", key, job)
    assert (done.code, len(done.err.splitlines())) == (3, 1)
    assert f"{key} has changed since it was read" in done.err
    done = seedance("journal", "forget", "--force", "--yes", key)
    assert done.code == 3
    assert len(read_entries(JOURNAL)) == 3
