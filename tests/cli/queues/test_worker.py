"""`worker`, and a run that goes on whoever dies or is left: by real processes, or in this one."""

import json
import signal
import threading
from pathlib import Path

from seedance_async.cli.app import run
from seedance_async.engines.submits import Submits
from tests.cli.conftest import QUICK, command, emulator, finish_all, results, running, write_prompts
from tests.cli.queues.conftest import URL

OPTIONS = ("--queue", URL, *QUICK)


async def test_a_killed_worker_is_taken_over_and_nothing_is_charged_twice():
    write_prompts(6)
    async with emulator(hold=True) as served:
        async with command("batch", "prompts.txt", "--queue", URL, served=served) as batch:
            async with command("worker", *OPTIONS, "--max-in-flight", "4", served=served) as first:
                await running(served, 4)
                first.send(signal.SIGKILL)
            async with command("worker", *OPTIONS, "--until-empty", served=served) as second:
                await second.until("4 tasks of 1 worker that died: others go on with them")
                await running(served, 6)
                finish_all(served)
                made, shown = await second.done(), await batch.done()
        charged = served.ledger.charged_prompts()
    assert (made.code, shown.code) == (0, 0)
    assert "6 succeeded, 6 videos saved, 80 credits charged" in made.err
    assert "6 succeeded, 6 videos saved" in shown.err
    assert "240 credits charged" in shown.err
    assert charged == {f"prompt {number}": 1 for number in range(1, 7)}
    assert len(results()) == 6
    assert {each["state"] for each in results().values()} == {"succeeded"}
    assert sorted(each["file"] for each in results().values()) == sorted(
        str(path) for path in Path("videos").glob("*.mp4")
    )


def polled(served, count):
    """Whether so many jobs are running, and each was polled."""
    jobs = list(served.jobs.values())
    return len(jobs) == served.jobs.active == count and all(job.polls for job in jobs)


def test_a_worker_that_is_told_to_leave_hands_back_what_runs(
    enqueue, seedance, signalled, seedance_emulator
):
    enqueue("one", "two")
    seedance_emulator.faults.script("job", "stuck", times=None)
    signalled(signal.SIGTERM, lambda: polled(seedance_emulator, 2))
    done = seedance("worker", *OPTIONS)
    assert done.code == 0
    assert "Leaving: 2 running jobs handed back" in done.err
    assert "has left: 0 tasks ended here" in done.err
    [shown] = seedance("queue", "status", "--queue", URL, "--json").records
    assert (shown["waiting"], shown["running"], shown["ended"]) == (2, 0, {})
    finish_all(seedance_emulator)
    done = seedance("worker", *OPTIONS, "--until-empty")
    assert (done.code, "2 succeeded, 2 videos saved, 0 credits" in done.err) == (0, True)
    assert len(seedance_emulator.ledger.charged) == 2


def test_what_holds_submits_up_is_said_and_waited_for(
    enqueue, seedance, signalled, seedance_emulator, monkeypatch
):
    enqueue("one")
    seedance_emulator.faults.script("submit", "unauthorized", times=None)
    refused = threading.Event()
    told = Submits.hold
    monkeypatch.setattr(Submits, "hold", lambda *args: (told(*args), refused.set()))
    signalled(signal.SIGTERM, refused.is_set)
    done = seedance("worker", *OPTIONS, "--until-empty")
    assert (done.code, len(seedance_emulator.ledger.charged)) == (130, 0)
    assert "WARNING nothing can be submitted for now, and is tried again: " in done.err
    assert "0 tasks ended here" in done.err


def test_the_code_of_a_worker_that_leaves_an_empty_queue_is_that_of_its_jobs(
    enqueue, seedance, seedance_emulator
):
    enqueue("good", "bad", "doubtful", "dear")
    seedance_emulator.faults.script("job", "failed", match="bad")
    seedance_emulator.faults.script("submit", "drop_after_accept", match="doubtful")
    done = seedance("worker", *OPTIONS, "--until-empty", "--events", "events.ndjson")
    assert done.code == 5
    assert "4 tasks ended here" in done.err
    assert "2 succeeded, 1 failed, 1 uncertain, 2 videos saved, 120 credits charged" in done.err
    told = [json.loads(line)["event"] for line in Path("events.ndjson").read_text().splitlines()]
    assert told.count("VideoSaved") == 2
    assert "is uncertain: perhaps accepted and charged" in done.err


def test_who_shows_a_run_may_leave_and_the_run_goes_on(
    enqueue, seedance, signalled, seedance_emulator, capsys
):
    enqueue("one", run="elsewhere")
    seedance_emulator.faults.script("job", "stuck", match="one", times=None)
    signalled(signal.SIGTERM, lambda: polled(seedance_emulator, 1))
    seedance("worker", *OPTIONS)
    Path("p.jsonl").write_text('{"prompt": "one", "key": "one"}\n{"prompt": "two"}\n')
    signalled(signal.SIGINT, Path("videos/results.jsonl").exists)
    code = run(["batch", "p.jsonl", "--queue", URL])
    err = capsys.readouterr().err
    assert (code, {number: each["state"] for number, each in results().items()}) == (
        130, {1: "abandoned", 2: "not_submitted"},
    )  # fmt: skip
    assert "Left: the workers go on with the run; 1 running job at the server." in err
    assert f"to end it: seedance queue cancel --queue {URL} --run videos" in err
    assert results()[2]["error"]["message"] == "it waits for a worker"
    finish_all(seedance_emulator)
    assert seedance("worker", *OPTIONS, "--until-empty").code == 0
    assert run(["batch", "p.jsonl", "--queue", URL]) == 0
    assert {each["state"] for each in results().values()} == {"succeeded"}
    assert len(seedance_emulator.ledger.charged) == 2
