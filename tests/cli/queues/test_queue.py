"""`queue status`, `cancel` and `resume`: of runs that have no worker at this moment."""

import json
from pathlib import Path

from seedance_async.cli.commands.queue import show_uncertain
from seedance_async.cli.console import Screen
from seedance_async.cli.queues.place import QueuePlace
from seedance_async.emulator import Fault
from seedance_async.journal import Intent, SQLiteJournal, read_entries
from tests.cli.conftest import QUICK
from tests.cli.queues.conftest import JOURNAL, URL

QUEUE = ("--queue", URL)
WORK = ("worker", *QUEUE, *QUICK, "--until-empty")


def status(seedance, *options):
    return {
        row["run"]: row for row in seedance("queue", "status", *QUEUE, "--json", *options).records
    }


def test_the_status_tells_of_all_runs_or_of_one(seedance, enqueue, seedance_emulator):
    missing = seedance("queue", "status", *QUEUE)
    assert (missing.code, "there is no queue at sqlite:///fleet.db" in missing.err) == (2, True)
    assert not Path("fleet.db").exists()
    enqueue("a", "b", run="autumn")
    enqueue("c", run="winter")
    shown = seedance("queue", "status", *QUEUE).out.splitlines()
    assert [line.split() for line in shown] == [
        ["run", "waiting", "running", "ended", "workers"],
        ["autumn", "2", "0", "-", "-"],
        ["winter", "1", "0", "-", "-"],
    ]
    seedance_emulator.faults.script("job", "failed", match="b")
    assert seedance(*WORK).code == 1
    found = status(seedance, "--run", "autumn", "--watch")
    assert list(found) == ["autumn"]
    assert found["autumn"]["ended"] == {"failed": 1, "succeeded": 1}


def test_a_run_that_is_not_there_is_an_error(seedance, enqueue):
    enqueue("a", run="autumn")
    for command in (["status"], ["uncertain"], ["cancel", "--yes"], ["resume"]):
        shown = seedance("queue", *command, *QUEUE, "--run", "autum")
        assert (shown.code, "has no run autum. To see its runs" in shown.err) == (2, True)


def test_a_worker_names_what_it_ends_unsent(seedance, enqueue, seedance_emulator):
    enqueue("a", "b")
    seedance_emulator.faults.script("submit", Fault("error", status=400), match="b")
    shown = seedance(*WORK)
    assert "task b was refused, nothing charged" in shown.err


def test_what_is_cancelled_is_never_sent_until_somebody_resumes_it(
    seedance, enqueue, seedance_emulator, monkeypatch
):
    enqueue("a", "b", "c")
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda text: "n")
    refused = seedance("queue", "cancel", *QUEUE, "--run", "videos")
    assert (refused.code, "Nothing was cancelled." in refused.err) == (1, True)
    assert seedance("queue", "cancel", *QUEUE, "--run", "videos", "--yes", "nobody").code == 2
    done = seedance("queue", "cancel", *QUEUE, "--run", "videos", "--yes", "a", "b")
    assert (done.code, "2 tasks cancelled." in done.err) == (0, True)
    assert seedance(*WORK).code == 0
    assert [entry.prompt for entry in seedance_emulator.ledger] == ["c"]
    assert status(seedance)["videos"]["ended"] == {"cancelled": 2, "succeeded": 1}
    again = seedance("queue", "cancel", *QUEUE, "--run", "videos")
    assert "Nothing to cancel" in again.err
    kept = seedance("queue", "resume", *QUEUE, "--run", "videos")
    assert "0 tasks of the run videos handed out again." in kept.err
    assert "2 tasks rejected or cancelled unsent: see --rejected" in kept.err
    unanswered = seedance("queue", "resume", *QUEUE, "--run", "videos", "--rejected")
    assert (unanswered.code, "2 jobs would be bought" in unanswered.err) == (2, True)
    seedance("queue", "resume", *QUEUE, "--run", "videos", "--rejected", "--yes")
    assert status(seedance)["videos"]["waiting"] == 2
    assert seedance(*WORK).code == 0
    assert sorted(entry.prompt for entry in seedance_emulator.ledger) == ["a", "b", "c"]


async def test_what_is_being_submitted_just_now_is_not_called_uncertain(capsys):
    Path("fleet.db").touch()
    journal = SQLiteJournal(JOURNAL, shared=True)
    await journal.open()
    await journal.claim(Intent("a", "f", '{"prompt": "p"}'))

    async def listed():
        code = await show_uncertain(QueuePlace(URL), None, Screen(), as_json=True)
        return code, [json.loads(line)["key"] for line in capsys.readouterr().out.splitlines()]

    assert await listed() == (0, [])
    await journal.aclose()  # as if its process had ended
    assert await listed() == (5, ["a"])


def test_a_video_that_was_not_saved_is_saved_by_another_worker(
    seedance, enqueue, seedance_emulator
):
    enqueue("a")
    Path("taken").write_text("a file, where a folder should be made")
    assert seedance(*WORK, "-o", "taken").code != 0
    assert seedance(*WORK, "-o", "videos").code == 0
    [entry] = read_entries(JOURNAL)
    assert Path(entry.path).parent.name == "videos"
    assert json.loads(entry.request)["prompt"] == "a"
