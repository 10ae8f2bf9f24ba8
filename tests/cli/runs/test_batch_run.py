"""`seedance batch` with its journal: the same command again, however the earlier one ended."""

import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from seedance_async import JournalError
from seedance_async.emulator import Fault
from seedance_async.journal import SQLiteJournal, read_entries
from seedance_async.journal.schema import MIGRATIONS
from tests.cli.conftest import (
    JOURNAL,
    QUICK,
    batch,
    command,
    emulator,
    entries,
    finish_all,
    recorded,
    results,
    stuck,
    write_prompts,
)

# --- a process that is gone -----------------------------------------------------------------------


async def test_a_killed_batch_is_resumed_by_the_same_command_and_nothing_is_paid_twice():
    write_prompts(8)
    async with emulator() as served:
        stuck(served, 5)
        async with batch(served, "--max-in-flight", "4") as process:
            await recorded(served, 4)
            served.jobs.finish(entries()[0].request_id)
            await served.wait_until(lambda: entries(state="succeeded") and entries()[0].path)
            await recorded(served, 4)
            await served.wait_until(lambda: len(results()) == 1)
            process.send(signal.SIGKILL)
            assert (await process.done()).code == -signal.SIGKILL
        finish_all(served)
        async with batch(served) as process:
            done = await process.done()
        charged = served.ledger.charged_prompts()
        fetched = [request.path for request in served.media_requests]
    assert done.code == 0
    assert charged == {f"prompt {n}": 1 for n in range(1, 9)}
    assert len(fetched) == len(set(fetched)) == 8, "each video is downloaded once"
    found = results()
    assert sorted(found) == list(range(1, 9))
    assert {record["state"] for record in found.values()} == {"succeeded"}
    videos = {str(path) for path in Path("videos").glob("*.mp4")}
    assert {record["file"] for record in found.values()} == videos
    assert "Resuming: 5 of 8 lines were sent in earlier runs, according to videos/" in done.err
    assert "320 credits charged, as reported by the server (200 of them in earlier" in done.err
    assert len(Path("videos/results.1.jsonl").read_text().splitlines()) == 1


async def test_a_submit_that_was_killed_before_its_answer_is_uncertain():
    write_prompts(2)
    async with emulator() as served:
        slow = Fault("latency", seconds=3, accepted=True)
        served.faults.script("submit", slow, match="prompt 1")
        async with batch(served, "--max-in-flight", "1") as process:
            await served.wait_until(lambda: len(served.ledger.charged) == 1)
            process.send(signal.SIGKILL)
            await process.done()
        async with batch(served) as process:
            done = await process.done()
        (key,) = [entry.key for entry in entries(state="uncertain")]
        assert done.code == 5
        assert served.ledger.charged_prompts() == {"prompt 1": 1, "prompt 2": 1}
        assert [record["state"] for _, record in sorted(results().items())] == [
            "uncertain", "succeeded",
        ]  # fmt: skip
        assert f"line 1 {key} “prompt 1”: the process ended between" in done.err
        adopt = f"seedance journal adopt --journal videos {key} REQUEST_ID"
        assert adopt in done.err
        assert adopt in results()[1]["next_step"]
        (job,) = [entry.request_id for entry in served.ledger.charged if entry.prompt == "prompt 1"]
        words = adopt.replace("REQUEST_ID", job).split()[1:]
        async with command(*words, *QUICK, served=served) as process:
            assert (await process.done()).code == 0
        async with batch(served) as process:
            assert (await process.done()).code == 0
        assert len(served.ledger.charged) == 2
        await served.wait_until(lambda: served.requests.count("submit") == 2)
    assert results()[1]["request_id"] == job


async def test_two_runs_cannot_use_one_folder_at_once():
    write_prompts(2)
    async with emulator() as served:
        stuck(served, 2)
        async with batch(served) as first:
            await recorded(served, 2)
            async with batch(served) as second:
                refused = await second.done()
            async with batch(served, "--overwrite") as third:
                as_well = await third.done()
            finish_all(served)
            done = await first.done()
        assert len(served.ledger) == 2
    assert (refused.code, as_well.code, done.code) == (3, 3, 0)
    for each in (refused, as_well):
        assert each.err.startswith("seedance: journal ")
        assert "it is in use: another run writes it" in each.err
        assert len(each.err.splitlines()) == 1
    assert len(results()) == 2
    assert not Path("videos/results.1.jsonl").exists()


async def test_a_run_that_was_left_says_how_to_resume_and_can_be_resumed():
    write_prompts(4)
    async with emulator() as served:
        stuck(served, 2)
        async with batch(served, "--max-in-flight", "2") as process:
            await recorded(served, 2)
            process.send(signal.SIGTERM)
            hint = await process.until("To resume: ")
            process.send(signal.SIGTERM)
            left = await process.done()
        assert left.code == 130
        assert "the same command again; or, to submit nothing more: seedance resume videos" in hint
        states = [record["state"] for _, record in sorted(results().items())]
        assert states == ["abandoned", "abandoned", "not_submitted", "not_submitted"]
        assert results()[1]["next_step"] == "seedance resume videos"
        assert not Path("videos/remaining.jsonl").exists(), "the input itself is what remains"
        finish_all(served)
        async with batch(served) as process:
            assert (await process.done()).code == 0
        assert served.ledger.charged_prompts() == {f"prompt {n}": 1 for n in range(1, 5)}


async def test_a_line_that_the_run_did_not_reach_is_reported_from_the_journal():
    """An earlier run paid for it: as not submitted, it would be paid for again."""
    write_prompts(5)
    async with emulator() as served:
        served.faults.script("job", "failed", match="prompt 2")
        served.faults.script("media", "gone", match="prompt 3", times=None)
        served.faults.script("submit", "drop_after_accept", match="prompt 4")
        served.faults.script("job", "stuck", match="prompt 5")
        async with batch(served, "--timeout", "2") as process:
            assert (await process.done()).code == 5
        journal, (line,) = JOURNAL, Path("prompts.txt").read_text().splitlines()[:1]
        opened = SQLiteJournal(journal)
        await opened.open()  # line 1 is to run again
        await opened.forget(e.key for e in entries() if json.loads(e.request)["prompt"] == line)
        await opened.aclose()
        stuck(served, 1)
        async with batch(served, "--max-in-flight", "1") as process:
            await served.wait_until(lambda: len(served.ledger) == 6 and entries(state="queued"))
            process.send(signal.SIGINT)
            await process.until("To resume: ")
            process.send(signal.SIGINT)
            await process.done()
        assert len(served.ledger) == 6
    found = {number: record["state"] for number, record in results().items()}
    errors = {number: record["error"]["type"] for number, record in results().items()}
    assert found == {1: "abandoned", 2: "failed", 3: "succeeded", 4: "uncertain", 5: "abandoned"}
    assert errors == {
        1: "InterruptedRunError",
        2: "EarlierRunError",
        3: "InterruptedRunError",
        4: "SubmitUncertainError",
        5: "InterruptedRunError",
    }
    assert results()[3]["file"] is None
    assert results()[3]["next_step"] == "seedance resume videos"


# --- in this process ------------------------------------------------------------------------------


def test_a_second_run_downloads_only_what_is_missing(seedance, seedance_emulator):
    write_prompts(3)
    assert seedance("batch", "prompts.txt").code == 0
    files = {number: Path(record["file"]) for number, record in results().items()}
    files[1].unlink()
    files[2].write_bytes(b"cut short")
    done = seedance("batch", "prompts.txt")
    assert done.code == 0
    assert "3 succeeded, 3 videos saved" in done.err
    assert all(path.stat().st_size > 1000 for path in files.values())
    assert len(seedance_emulator.media_requests) == 5
    assert len(seedance_emulator.ledger) == 3


def test_a_folder_that_was_moved_keeps_its_videos(seedance, seedance_emulator):
    write_prompts(2)
    assert seedance("batch", "prompts.txt").code == 0
    Path("videos").rename("elsewhere")
    assert seedance("batch", "prompts.txt", "-o", "elsewhere").code == 0
    assert len(seedance_emulator.media_requests) == len(seedance_emulator.ledger) == 2
    assert results("elsewhere")[1]["file"].startswith("elsewhere/")


def test_lines_may_be_added_and_moved(seedance, seedance_emulator):
    write_prompts(2)
    assert seedance("batch", "prompts.txt").code == 0
    Path("prompts.txt").write_text("new\nprompt 2\nprompt 1\nprompt 1\n")
    assert seedance("batch", "prompts.txt").code == 0
    assert seedance_emulator.ledger.charged_prompts() == {"prompt 1": 2, "prompt 2": 1, "new": 1}
    assert len({record["request_id"] for record in results().values()}) == 4


def test_overwrite_starts_over_and_keeps_every_record(seedance, seedance_emulator):
    write_prompts(1)
    for _ in range(3):
        done = seedance("batch", "prompts.txt", "--overwrite")
        assert done.code == 0
    assert "videos/run.db of an earlier run is now videos/run.2.db" in done.err
    assert "videos/results.jsonl of an earlier run is now videos/results.2.jsonl" in done.err
    assert len(seedance_emulator.ledger.charged) == 3
    ids = [read_entries(f"videos/{name}")[0].request_id for name in ("run.1.db", "run.2.db")]
    assert [*ids, entries()[0].request_id] == list(seedance_emulator.jobs)


def test_the_results_of_a_run_without_a_journal_are_not_paid_for_again(seedance, seedance_emulator):
    write_prompts(1)
    assert seedance("batch", "prompts.txt", "--no-journal").code == 0
    done = seedance("batch", "prompts.txt")
    assert done.code == 2
    assert "the record of an earlier run without a journal" in done.err
    assert not JOURNAL.exists(), "else the next run would take the folder for its own"
    assert len(seedance_emulator.ledger) == 1


def test_a_folder_with_a_journal_is_refused_without_one(seedance, seedance_emulator):
    write_prompts(1)
    assert seedance("batch", "prompts.txt").code == 0
    Path("videos/results.jsonl").unlink()
    done = seedance("batch", "prompts.txt", "--no-journal")
    assert (done.code, len(seedance_emulator.ledger)) == (2, 1)
    assert "videos/run.db exists" in done.err


def test_the_journal_may_be_elsewhere(seedance, seedance_emulator):
    write_prompts(1)
    seedance_emulator.faults.script("media", "gone", match="prompt", times=None)
    done = seedance("batch", "prompts.txt", "--journal", "mine.db")
    assert done.code == 6
    assert not JOURNAL.exists()
    again = "seedance resume mine.db -o videos"
    assert results()[1]["next_step"] == again
    seedance_emulator.faults.clear()
    assert seedance(*again.split()[1:]).code == 0
    assert len(list(Path("videos").glob("*.mp4"))) == 1


@pytest.mark.parametrize("option", ["--journal=a.db", "--resubmit-uncertain"])
def test_the_options_of_a_journal_cannot_be_combined_with_no_journal(seedance, option):
    write_prompts(1)
    assert seedance("batch", "prompts.txt", "--no-journal", option).code == 2


def test_an_uncertain_line_is_submitted_again_only_when_asked_to(seedance, seedance_emulator):
    write_prompts(1)
    seedance_emulator.faults.script("submit", "drop_after_accept")
    for _ in range(2):
        assert seedance("batch", "prompts.txt").code == 5
        assert len(seedance_emulator.ledger) == 1
    assert seedance("batch", "prompts.txt", "--resubmit-uncertain").code == 0
    assert len(seedance_emulator.ledger) == 2


def test_the_limit_holds_over_all_runs_and_what_is_beyond_it_is_not_submitted(
    seedance, seedance_emulator
):
    write_prompts(6)
    for _ in range(2):
        done = seedance("batch", "prompts.txt", "--max-credits", "130")
        assert done.code == 4
        states = [record["state"] for record in results().values()]
        assert (states.count("succeeded"), states.count("not_submitted")) == (3, 3)
        assert "120 of 130 credits are spent, and this submit would need 40" in done.err
        assert seedance_emulator.ledger.credits_charged == 120
    assert seedance("batch", "prompts.txt", "--max-credits", "240").code == 0
    assert len(seedance_emulator.ledger) == 6


def test_a_dry_run_shows_what_is_new_what_is_known_and_what_it_may_cost(
    seedance, seedance_emulator
):
    write_prompts(2)
    seedance_emulator.faults.script("submit", "drop_after_accept", match="prompt 2")
    assert seedance("batch", "prompts.txt").code == 5
    write_prompts(4)
    assert seedance("batch", "prompts.txt", "--dry-run").out.splitlines() == [
        "2 jobs would be submitted; nothing was sent",
        "2 lines are already in videos/run.db: 1 succeeded, 1 uncertain",
        "estimated cost: about 80 credits",
        "  line 3: 40 (seedance-2.0, text, default length and resolution) “prompt 3”",
        "  line 4: 40 (seedance-2.0, text, default length and resolution) “prompt 4”",
    ]
    other = seedance("batch", "prompts.txt", "--dry-run", "--duration", "5").out.splitlines()
    assert other[:-4] == [
        "4 jobs would be submitted; nothing was sent",
        "1 job of earlier runs may be running and paid for, and no line of this input is one "
        "of them:",
        "  uncertain uncertain “prompt 2”",
        "1 new job would be bought for prompts that were bought before with other options:",
        "  duration was not given, is 5 (1 line)",
        "estimated cost: at most 320 credits",
    ]
    resubmit = ("--dry-run", "--resubmit-uncertain")
    assert seedance("batch", "prompts.txt", *resubmit).out.startswith("3 jobs would")
    assert seedance("batch", "prompts.txt", "--dry-run", "--overwrite").out.startswith("4 jobs")
    assert len(seedance_emulator.ledger) == 2


# --- a journal that cannot be used ----------------------------------------------------------------


def newer_version():
    with closing(sqlite3.connect("newer.db")) as connection:
        connection.execute(f"PRAGMA application_id = {0x53444A4C}")
        connection.execute("PRAGMA user_version = 99")
    return Path("newer.db").read_bytes()


def of_another_program():
    with closing(sqlite3.connect("other.db")) as connection:
        connection.execute("CREATE TABLE songs (name)")
    return Path("other.db").read_bytes()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: b"This is no database, though it is long enough", "it is no SQLite file"),
        (of_another_program, "it is a database of another program"),
        (
            newer_version,
            f"it is of version 99, newer than {len(MIGRATIONS)}: update seedance-async",
        ),
    ],
)
def test_a_file_that_is_not_a_journal_is_one_clear_line(seedance, seedance_emulator, make, message):
    write_prompts(1)
    content = make()
    Path("videos").mkdir()
    JOURNAL.write_bytes(content)
    for args in (("batch", "prompts.txt"), ("batch", "prompts.txt", "--dry-run"), ("resume",)):
        done = seedance(*args)
        assert (done.code, len(done.err.splitlines())) == (3, 1)
        assert message in done.err
    assert JOURNAL.read_bytes() == content
    assert len(seedance_emulator.ledger) == 0
    assert seedance("batch", "prompts.txt", "--overwrite").code == 0
    assert Path("videos/run.1.db").read_bytes() == content


def test_a_disk_too_full_for_an_intent_stops_the_submitting(
    seedance, seedance_emulator, monkeypatch
):
    claim, left = SQLiteJournal.claim, [2]

    async def full(self, *args, **values):
        left[0] -= 1
        if left[0] < 0:
            raise JournalError("database or disk is full", path="videos/run.db")
        return await claim(self, *args, **values)

    monkeypatch.setattr(SQLiteJournal, "claim", full)
    write_prompts(30)
    done = seedance("batch", "prompts.txt", "--max-in-flight", "1")
    assert done.code == 3
    assert "journal videos/run.db: database or disk is full" in done.err
    states = [record["state"] for record in results().values()]
    assert (states.count("succeeded"), states.count("not_submitted")) == (2, 28)
    assert left[0] > -5, "it does not go on trying"
    assert len(seedance_emulator.ledger) == 2


def test_an_accepted_job_that_could_not_be_recorded_is_shown_with_its_id(
    seedance, seedance_emulator, monkeypatch
):
    async def full(self, attempt, **changes):
        error = JournalError("disk full", path="run.db", request_id=changes.get("request_id"))
        raise error

    monkeypatch.setattr(SQLiteJournal, "record", full)
    monkeypatch.setattr(SQLiteJournal, "record_soon", lambda self, attempt, **changes: None)
    write_prompts(1)
    done = seedance("batch", "prompts.txt")
    (job,) = seedance_emulator.jobs
    assert done.code == 6
    assert f"Accepted, but NOT in the journal: {job}." in done.err
    assert results()[1]["request_id"] == job
