"""`seedance journal`: what it holds, and settling what is uncertain."""

from pathlib import Path

import attrs
import pytest

from seedance_async.journal import JournalEntry, read_entries
from tests.cli.conftest import command, emulator, results
from tests.cli.test_going_on import JOURNAL, batch, entries, finish_all, recorded, stuck, write


@pytest.fixture
def key(seedance, seedance_emulator):
    """A batch of three with one lost submit; the key of that."""
    write(3)
    seedance_emulator.faults.script("submit", "drop_after_accept", match="prompt 2")
    assert seedance("batch", "prompts.txt").code == 5
    (uncertain,) = entries(state="uncertain")
    return uncertain.key


def id_of(seedance_emulator, prompt):
    charged = seedance_emulator.ledger.charged
    return next(entry.request_id for entry in charged if entry.prompt == prompt)


# --- show and export ------------------------------------------------------------------------------


def test_the_table_has_every_job_and_its_totals(seedance, key):
    done = seedance("journal", "show")
    assert done.code == 0
    heading, *rows = done.out.splitlines()
    assert heading.split() == [
        "key", "state", "request", "id", "credits", "charged", "file", "prompt",
    ]  # fmt: skip
    for row, entry in zip(rows, read_entries(JOURNAL), strict=True):
        told = [entry.key, entry.state, entry.request_id, entry.credits_charged, entry.path]
        assert row.split()[:5] == ["-" if value is None else str(value) for value in told]
    assert done.err == (
        "3 entries: 2 succeeded, 1 uncertain; 2 saved; 80 credits charged; "
        "1 may have been charged as well\n"
    )


def test_one_state_may_be_asked_for(seedance, key):
    done = seedance("journal", "show", "videos/run.db", "--state", "uncertain", "--json")
    assert [record["key"] for record in done.records] == [key]
    assert done.records[0]["prompt"] == "prompt 2"
    done = seedance("journal", "show", "--state", "failed")
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("0 entries: none;")


def test_the_export_has_all_fields_of_all_entries(seedance, key):
    done = seedance("journal", "export")
    assert [JournalEntry(**record) for record in done.records] == read_entries(JOURNAL)
    assert set(done.records[0]) == {field.name for field in attrs.fields(JournalEntry)}


async def test_it_can_be_read_while_a_run_is_writing_it_but_not_changed():
    write(2)
    async with emulator() as served:
        stuck(served, 2)
        async with batch(served) as process:
            await recorded(served, 2)
            async with command("journal", "show") as reader:
                read = await reader.done()
            (first, _) = entries()
            async with command("journal", "forget", "--yes", "--force", first.key) as changer:
                refused = await changer.done()
            finish_all(served)
            assert (await process.done()).code == 0
    assert read.code == 0
    assert "2 entries: 2 queued" in read.err
    assert refused.code == 3
    assert "it is in use: another run writes it" in refused.err
    assert len(entries(state="succeeded")) == 2


# --- forget ---------------------------------------------------------------------------------------


def test_what_is_forgotten_is_submitted_and_paid_for_again(
    seedance, seedance_emulator, key, monkeypatch
):
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda text: "y")
    first = read_entries(JOURNAL)[0]
    done = seedance("journal", "forget", first.key)
    assert done.code == 0
    assert "Forgotten, they are submitted and paid for again by the same batch." in done.err
    assert f"{first.key} succeeded {first.request_id} “prompt 1”" in done.err
    assert seedance("batch", "prompts.txt").code == 5
    assert seedance_emulator.ledger.charged_prompts()["prompt 1"] == 2


def test_without_a_yes_nothing_is_forgotten(seedance, key, monkeypatch):
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda text: "n")
    before = read_entries(JOURNAL)
    done = seedance("journal", "forget", before[0].key)
    assert done.code == 1
    assert "Nothing was forgotten." in done.err
    assert read_entries(JOURNAL) == before


def test_what_may_be_running_or_charged_is_forgotten_only_by_force(seedance, key):
    first = read_entries(JOURNAL)[0].key
    done = seedance("journal", "forget", "--yes", first, key)
    assert done.code == 2
    assert f"{key} is uncertain: its job may be running and paid for" in done.err
    assert len(read_entries(JOURNAL)) == 3, "none of them, where one is refused"
    done = seedance("journal", "forget", "--yes", "--force", first, key, first)
    assert (done.code, len(read_entries(JOURNAL))) == (0, 1)
    assert "2 forgotten." in done.err


def test_a_key_that_is_not_there_is_no_reason_to_forget_another(seedance, key):
    done = seedance("journal", "forget", "--yes", read_entries(JOURNAL)[0].key, "nobody")
    assert done.code == 2
    assert "videos/run.db has no entry nobody; nothing was changed" in done.err
    assert len(read_entries(JOURNAL)) == 3


# --- adopt ----------------------------------------------------------------------------------------


def test_the_id_from_the_dashboard_settles_an_uncertain_entry(seedance, seedance_emulator, key):
    job = id_of(seedance_emulator, "prompt 2")
    done = seedance("journal", "adopt", key, job)
    assert (done.code, done.err) == (0, f"{key} is job {job}, succeeded.\n")
    assert seedance("resume").code == 0
    assert Path(f"videos/{job}.mp4").exists()
    assert seedance("batch", "prompts.txt").code == 0
    assert results()[2]["request_id"] == job
    assert len(seedance_emulator.ledger) == 3


def test_a_job_that_failed_is_adopted_with_the_servers_words(seedance, seedance_emulator):
    write(1)
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
    ("request_id", "code", "told"),
    [("req_nobody", 1, "HTTP 404"), (" ", 2, "' ' cannot be a request id")],
)
def test_a_job_that_the_server_does_not_know_is_not_adopted(
    seedance, seedance_emulator, key, request_id, code, told
):
    done = seedance("journal", "adopt", key, request_id)
    assert done.code == code
    assert told in done.err
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
    monkeypatch.setattr("seedance_async.cli.commands.settle.read_entries", lambda path: stale)
    done = seedance("journal", "adopt", key, job)
    assert (done.code, len(done.err.splitlines())) == (3, 1)
    assert f"{key} has changed meanwhile" in done.err
    done = seedance("journal", "forget", "--force", "--yes", key)
    assert done.code == 3
    assert len(read_entries(JOURNAL)) == 3
