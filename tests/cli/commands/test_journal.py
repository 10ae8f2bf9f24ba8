"""`seedance journal show` and `export`: what a journal holds."""

import attrs

from seedance_async.journal import JournalEntry, read_entries
from tests.cli.conftest import (
    JOURNAL,
    batch,
    command,
    emulator,
    entries,
    finish_all,
    recorded,
    stuck,
    write_prompts,
)


def test_the_table_has_every_job_and_its_totals(seedance, key):
    done = seedance("journal", "show")
    assert done.code == 0
    heading, *rows = done.out.splitlines()
    assert heading.split() == [
        "key", "state", "request", "id", "credits", "file", "prompt",
    ]  # fmt: skip
    for row, entry in zip(rows, read_entries(JOURNAL), strict=True):
        values = [entry.key, entry.state, entry.request_id, entry.credits_charged, entry.path]
        assert row.split()[:5] == ["-" if value is None else str(value) for value in values]
    assert done.err == (
        "3 jobs: 2 succeeded, 1 uncertain; 2 videos saved; 80 credits charged; "
        "1 job may have been charged as well\n"
    )


def test_one_state_can_be_chosen(seedance, key):
    done = seedance("journal", "show", "videos/run.db", "--state", "uncertain", "--json")
    assert [record["key"] for record in done.records] == [key]
    assert done.records[0]["prompt"] == "prompt 2"
    done = seedance("journal", "show", "--state", "failed")
    assert (done.code, done.out) == (0, "")
    assert done.err.startswith("0 jobs; 0 videos saved; 0 credits")


def test_the_export_has_all_fields_of_all_entries(seedance, key):
    done = seedance("journal", "export")
    assert [JournalEntry(**record) for record in done.records] == read_entries(JOURNAL)
    assert set(done.records[0]) == {field.name for field in attrs.fields(JournalEntry)}


async def test_it_can_be_read_while_a_run_is_writing_it_but_not_changed():
    write_prompts(2)
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
    assert "2 jobs: 2 queued/processing;" in read.err
    assert "queued/processing" in read.out
    assert refused.code == 3
    assert "it is in use: another run writes it" in refused.err
    assert len(entries(state="succeeded")) == 2
