"""`seedance resume`: the jobs of a journal, without the input, and nothing submitted."""

import signal
from pathlib import Path

import pytest

from seedance_async.journal import read_entries
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


def states():
    return [entry.state for entry in read_entries(JOURNAL)]


async def test_the_jobs_of_a_killed_batch_are_resumed_and_nothing_is_submitted():
    write_prompts(5)
    async with emulator() as served:
        stuck(served, 2)
        async with batch(served, "--max-in-flight", "2") as process:
            await recorded(served, 2)
            process.send(signal.SIGKILL)
            await process.done()
        finish_all(served)
        async with command("resume", *QUICK, served=served) as process:
            done = await process.done()
        assert (done.code, done.out) == (0, "")
        assert "2 jobs in " in done.err
        assert "2 succeeded, 2 videos saved" in done.err
        assert len(served.ledger) == 2
        assert states() == ["succeeded", "succeeded"]
        assert {path.stem for path in Path("videos").glob("*.mp4")} == set(served.jobs)
        async with batch(served) as process:
            assert (await process.done()).code == 0
        assert len(served.media_requests) == len(served.ledger) == 5


async def test_it_can_be_interrupted_and_started_again_as_a_batch_can():
    write_prompts(3)
    async with emulator() as served:
        stuck(served, 3)
        async with batch(served) as process:
            await recorded(served, 3)
            process.send(signal.SIGKILL)
            await process.done()
        async with command("resume", "--max-in-flight", "2", *QUICK, served=served) as process:
            polls = [job.polls for job in served.jobs.values()]
            await served.wait_until(
                lambda: sum(job.polls for job in served.jobs.values()) > sum(polls) + 3
            )
            process.send(signal.SIGTERM)
            await process.until("Waiting for 2 running jobs. Press Ctrl-C again to leave.")
            process.send(signal.SIGTERM)
            left = await process.done()
        assert left.code == 130
        assert "3 still running" in left.err.splitlines()[-1]
        assert "3 jobs go on at the server, and can be resumed:" in left.err
        assert "  To resume: seedance resume videos" in left.err
        finish_all(served)
        async with command("resume", "videos/run.db", *QUICK, served=served) as process:
            done = await process.done()
        assert done.code == 0
        assert len(served.ledger) == 3
    assert states() == ["succeeded"] * 3
    assert len(list(Path("videos").glob("*.mp4"))) == 3


def test_videos_that_were_not_saved_are_downloaded_and_uncertain_jobs_are_named(
    seedance, seedance_emulator
):
    write_prompts(4)
    seedance_emulator.faults.script("media", "gone", match="prompt 1", times=None)
    seedance_emulator.faults.script("submit", "drop_after_accept", match="prompt 2")
    seedance_emulator.faults.script("job", "failed", match="prompt 3")
    assert seedance("batch", "prompts.txt").code == 5
    seedance_emulator.faults.clear()
    done = seedance("resume", "-o", "fetched", "--json")
    assert done.code == 5
    shown = {record["prompt"]: record for record in done.records}
    assert set(shown) == {"prompt 1", "prompt 2"}, "what has ended is not shown again"
    assert Path(shown["prompt 1"]["file"]).parent == Path("fetched")
    assert shown["prompt 1"]["line"] is None
    (uncertain,) = entries(state="uncertain")
    assert shown["prompt 2"]["key"] == uncertain.key
    assert f"adopt --journal videos/run.db {uncertain.key} REQUEST_ID" in done.err
    assert len(seedance_emulator.ledger) == 4
    assert seedance("batch", "prompts.txt").code == 5
    assert results()[1]["file"] == shown["prompt 1"]["file"]


def test_without_unfinished_jobs_nothing_is_done_and_no_key_is_needed(
    seedance, seedance_emulator, monkeypatch
):
    write_prompts(1)
    assert seedance("batch", "prompts.txt").code == 0
    monkeypatch.delenv("SEEDANCE_API_KEY")
    done = seedance("resume")
    assert done.code == 0
    nothing = "Nothing to resume in videos/run.db: no job is running, and every video is saved."
    assert done.err == f"{nothing}\n"


def test_one_job_that_never_ends_does_not_keep_the_others_from_being_saved(
    seedance, seedance_emulator
):
    write_prompts(2)
    seedance_emulator.faults.script("job", "stuck", times=2)
    assert seedance("batch", "prompts.txt", "--timeout", "1").code == 5
    first, second = seedance_emulator.jobs.values()
    seedance_emulator.jobs.finish(second.request_id)
    done = seedance("resume", "--timeout", "1")
    assert done.code == 5
    assert "1 succeeded, 1 abandoned, 1 video saved" in done.err
    assert (
        "1 job abandoned: no longer waited for, but it may still succeed at the server:" in done.err
    )
    assert f"{first.request_id} " in done.err


@pytest.mark.parametrize("place", ["missing", "missing.db"])
def test_a_missing_journal_is_one_clear_line(seedance, seedance_emulator, place):
    done = seedance("resume", place)
    assert (done.code, done.err) == (3, f"seedance: journal {place}: there is no such file\n")


def test_a_job_that_is_forgotten_meanwhile_is_not_submitted(
    seedance, seedance_emulator, monkeypatch
):
    write_prompts(1)
    seedance_emulator.faults.script("job", "stuck")
    assert seedance("batch", "prompts.txt", "--timeout", "0.3").code == 5
    stale = read_entries(JOURNAL)
    assert seedance("journal", "forget", "--force", "--yes", stale[0].key).code == 0
    monkeypatch.setattr("seedance_async.cli.commands.resume.read_entries", lambda path: stale)
    done = seedance("resume", "--timeout", "0.3")
    assert done.code == 5
    assert "it could not be resumed: this command submits nothing" in done.err
    assert len(seedance_emulator.ledger) == 1
