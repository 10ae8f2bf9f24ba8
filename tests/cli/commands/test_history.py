"""`seedance history`: nothing that was bought is out of sight, however its command ended."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from seedance_async.emulator import Fault
from seedance_async.journal import read_entries
from tests.cli.conftest import QUICK, command, emulator, write_prompts


def test_single_jobs_and_batches_are_listed_together_the_latest_last(seedance, seedance_emulator):
    write_prompts(2)
    assert seedance("generate", "A river").code == 0
    assert seedance("batch", "prompts.txt").code == 0
    assert seedance("batch", "prompts.txt").code == 0
    assert seedance("generate", "A lake", "--no-download").code == 0
    done = seedance("history")
    assert done.code == 0
    lines = done.out.splitlines()
    assert [line.split("“")[1].split("”")[0] for line in lines] == [
        "A river", "prompt 1", "prompt 2", "A lake",
    ]  # fmt: skip
    assert all(job in done.out for job in seedance_emulator.jobs)
    assert lines[0].endswith(".mp4")
    assert "/media/" in lines[3]
    credits = seedance_emulator.ledger.credits_charged
    assert done.err == f"4 jobs; {credits} credits charged\n"


def test_history_as_json_tells_the_journal_and_the_price(seedance, seedance_emulator):
    seedance("generate", "A river")
    (record,) = seedance("history", "--json").records
    (job,) = seedance_emulator.jobs.values()
    assert record["request_id"] == job.request_id
    assert record["credits_charged"] == seedance_emulator.ledger.credits_charged
    assert (record["state"], record["prompt"]) == ("succeeded", "A river")
    assert Path(record["file"]).exists()
    assert read_entries(record["journal"])[0].key == record["key"]


def test_only_the_latest_are_listed_if_asked(seedance, seedance_emulator):
    for prompt in ("a", "b", "c"):
        seedance("generate", prompt)
    done = seedance("history", "-n", "2")
    assert [line.split("“")[1][0] for line in done.out.splitlines()] == ["b", "c"]
    assert done.err.startswith("the latest 2 of 3 jobs")


def test_a_refused_job_cost_nothing_and_is_not_listed(seedance, seedance_emulator):
    seedance_emulator.faults.script("submit", Fault("error", status=422))
    assert seedance("generate", "A river").code == 1
    assert seedance("history").out == ""


def test_an_uncertain_job_is_listed_by_its_key(seedance, seedance_emulator):
    seedance_emulator.faults.script("submit", "drop_after_accept")
    assert seedance("generate", "A river").code == 5
    done = seedance("history")
    assert "uncertain" in done.out
    assert "generate-" in done.out


def test_without_anything_bought_the_history_is_empty(seedance):
    done = seedance("history")
    assert (done.code, done.out, done.err) == (0, "", "0 jobs; 0 credits charged\n")


def test_a_journal_that_is_gone_is_named(seedance, seedance_emulator):
    write_prompts(1)
    seedance("batch", "prompts.txt")
    Path("videos/run.db").unlink()
    done = seedance("history")
    assert done.code == 0
    assert "videos/run.db: there is no such file" in done.err


@pytest.mark.parametrize("state", ["file", "folder/that/cannot/be"])
def test_where_no_history_can_be_kept_a_job_is_made_nevertheless(
    seedance, seedance_emulator, monkeypatch, state
):
    Path("file").write_text("no folder")
    Path("folder").write_text("no folder")
    monkeypatch.setenv("SEEDANCE_STATE_DIR", str(Path(state).absolute()))
    done = seedance("generate", "A river")
    assert done.code == 0
    assert "this job will be in no history" in done.err
    assert next(iter(seedance_emulator.jobs)) in done.err


def test_a_job_that_is_waited_for_by_its_id_gets_its_end_and_its_file(seedance, seedance_emulator):
    seedance_emulator.faults.script("job", "stuck")
    assert seedance("generate", "A river", "--timeout", "0.2").code == 5
    (job,) = seedance_emulator.jobs
    seedance_emulator.jobs.finish(job)
    assert seedance("status", job, "--wait", "-o", "saved").code == 0
    (record,) = seedance("history", "--json").records
    assert record["state"] == "succeeded"
    assert Path(record["file"]) == Path(f"saved/{job}.mp4")


async def test_a_killed_generate_leaves_its_id_on_the_screen_and_in_the_history():
    async with emulator() as served:
        served.faults.script("job", "stuck")
        async with command("generate", "A river", *QUICK, served=served) as running:
            shown = await running.until("is accepted, charged")
            running.send(signal.SIGKILL)
            await running.done()
        (job,) = served.jobs
        assert job in shown
        async with command("history", "--json") as listing:
            (record,) = (await listing.done()).records
        assert (record["request_id"], record["prompt"]) == (job, "A river")


async def test_a_generate_killed_in_the_middle_of_its_submit_is_uncertain_in_the_history():
    async with emulator() as served:
        served.faults.script("submit", Fault("slow_body", seconds=0.1))
        async with command("generate", "A river", *QUICK, served=served) as running:
            await served.wait_until(lambda: len(served.ledger.charged) == 1)
            running.send(signal.SIGKILL)
            await running.done()
        async with command("history", "--json") as listing:
            (record,) = (await listing.done()).records
        assert record["request_id"] is None
        assert record["state"] == "submitting"
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)  # the answer to nobody


def test_the_history_is_for_its_owner_alone(seedance, seedance_emulator):
    seedance("generate", "A river")
    folder = Path(os.environ["SEEDANCE_STATE_DIR"])
    assert folder.stat().st_mode & 0o77 == 0
    assert all(file.stat().st_mode & 0o77 == 0 for file in folder.glob("bought.db*"))
