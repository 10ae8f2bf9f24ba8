"""`batch --queue`: the same results as without one, whoever makes the jobs."""

import asyncio
import json
import signal
import threading
from pathlib import Path

import pytest

from seedance_async.cli.app import run
from seedance_async.cli.commands import queue_edit
from seedance_async.cli.commands.journal_edit import found_at_server
from seedance_async.cli.queues.place import QueuePlace
from seedance_async.engines.dbos import SeedanceQueue
from seedance_async.journal import Intent, SQLiteJournal, read_entries
from seedance_async.media.sidecar import read_sidecar
from tests.cli.conftest import QUICK, results
from tests.cli.queues.conftest import JOURNAL, URL
from tests.cli.test_completions import offered
from tests.support.for_each import for_each

SHOTS = "prompt,Scene,key\nA river,3,r\nA fox,4,f\n"


def write(text=SHOTS, name="shots.csv"):
    Path(name).write_text(text, encoding="utf-8")
    return name


@pytest.fixture
def queued(seedance):
    """Run a batch with a queue, whose worker is in the same process."""

    def batch(*args):
        return seedance("batch", *args, "--queue", URL, "--work")

    return batch


def _error(record):
    error = record["error"]
    return error and {**error, "message": error["message"].replace(record["request_id"], "ID")}


def without(record, *names):
    return {name: value for name, value in record.items() if name not in names}


def test_the_results_are_those_of_a_batch_without_a_queue(seedance, queued, seedance_emulator):
    seedance_emulator.faults.script("job", "failed", match="A fox", times=None)
    plain = seedance("batch", write(), "-o", "plain")
    done = queued("shots.csv", "-o", "videos", "--json")
    assert (done.code, plain.code) == (1, 1)
    assert {record["line"]: record for record in done.records} == results()
    own = ("request_id", "file", "output_url", "error")
    for number, before in results("plain").items():
        assert without(results()[number], *own) == without(before, *own)
        assert _error(results()[number]) == _error(before)
    made = results()[1]
    assert made["file"] == f"videos/0001-{made['request_id']}.mp4"
    kinds = sorted({path.suffix for path in Path("videos").iterdir()})
    assert kinds == [".jpg", ".json", ".jsonl", ".mp4"]
    sidecar = read_sidecar(Path(made["file"]))
    video = Path(made["file"]).read_bytes()
    assert (sidecar.key, sidecar.line, sidecar.columns) == ("r", 1, {"Scene": "3"})
    assert sidecar.size == len(video) > 1000
    assert "2 lines of shots.csv in " in done.err
    assert "1 succeeded, 1 failed, 1 video saved" in done.err
    assert "line 1 saved: " in done.err
    assert "line 2 failed: " in done.err


def test_the_same_command_again_buys_nothing_and_shows_what_there_is(
    seedance, queued, seedance_emulator
):
    Path("seedance.toml").write_text("max-in-flight = 3\n")  # is for workers, and no contradiction
    name = ("--name", "{line:02}-{slug}-{take}", "--takes", "2")
    assert queued(write(), "-o", "videos", *name).code == 0
    first = {(r["line"], r["take"]): r for r in _records("videos/results.jsonl")}
    assert len(seedance_emulator.ledger.charged) == len(first) == 4
    assert first[1, 2]["file"] == "videos/01-a-river-2.mp4"
    assert [path.name for path in sorted(Path("videos").glob("*.mp4"))] == [
        "01-a-river-1.mp4", "01-a-river-2.mp4", "02-a-fox-1.mp4", "02-a-fox-2.mp4",
    ]  # fmt: skip
    again = queued("shots.csv", "-o", "videos", *name)
    assert again.code == 0
    assert "4 tasks in the run videos of sqlite:///fleet.db: 0 new." in again.err
    assert "Resuming: 4 of 4 takes of 2 lines were sent in earlier runs" in again.err
    assert "(160 of them in earlier runs)" in again.err
    assert {(r["line"], r["take"]): r for r in _records("videos/results.jsonl")} == first
    assert Path("videos/results.1.jsonl").exists()
    assert len(seedance("history").out.splitlines()) == len(read_entries(JOURNAL)) == 4
    dry = queued("shots.csv", "-o", "videos", "--dry-run", *name)
    assert "0 jobs would be submitted" in dry.out
    assert len(seedance_emulator.ledger) == 4


def _records(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_what_a_limit_left_is_bought_once_it_is_raised(queued, seedance_emulator, monkeypatch):
    monkeypatch.setenv("SEEDANCE_ASK_ABOVE", "60")
    refused = queued(write())
    assert (refused.code, "2 jobs would cost" in refused.err) == (2, True)
    monkeypatch.setenv("SEEDANCE_ASK_ABOVE", "1000000")
    done = queued("shots.csv", "--max-credits", "50")
    assert done.code == 4
    [left] = [record for record in results().values() if record["state"] == "not_submitted"]
    assert left["error"]["message"].startswith("40 of 50 credits are spent")
    assert "raise --max-credits of the workers, and run again" in done.err
    done = queued("shots.csv", "--max-credits", "80")
    assert (done.code, "0 new, 1 handed out again" in done.err) == (0, True)
    assert len(seedance_emulator.ledger.charged) == 2


def test_a_folder_with_a_record_of_its_own_is_not_bought_again(seedance, queued, seedance_emulator):
    assert seedance("batch", write(), "-o", "videos", "--name", "{slug}").code == 0
    refused = queued("shots.csv", "-o", "videos")
    assert refused.code == 2
    assert "run.db has 2 of the jobs of earlier runs, and the queue does not know them" in (
        refused.err
    )
    copied = seedance("journal", "copy", "videos", URL)
    assert copied.err == "2 jobs and 2 attempts copied to sqlite:///fleet.db.\n"
    assert seedance("journal", "copy", "videos", URL).err == (
        "0 jobs and 0 attempts copied to sqlite:///fleet.db; 2 were there already.\n"
    )
    before = results()
    assert queued("shots.csv", "-o", "videos").code == 0
    assert len(seedance_emulator.ledger) == 2
    assert {n: r["file"] for n, r in results().items()} == {n: r["file"] for n, r in before.items()}


def test_an_uncertain_submit_is_named_adopted_and_saved(seedance, queued, seedance_emulator):
    seedance_emulator.faults.script("submit", "drop_after_accept", match="A fox")
    done = queued(write())
    assert done.code == 5
    assert "seedance queue adopt --queue sqlite:///fleet.db f REQUEST_ID" in done.err
    listed = seedance("queue", "uncertain", "--queue", URL, "--run", "videos")
    assert (listed.code, listed.out.split()[0]) == (5, "f")
    assert "What to do: look for the job in the vendor's dashboard" in listed.err
    [job] = [e.request_id for e in seedance_emulator.ledger.charged if e.prompt == "A fox"]
    assert offered("queue", "adopt", "--queue", URL, "") == ["f"]
    wrong = seedance("queue", "adopt", "--queue", URL, "r", job)
    assert (wrong.code, "r is succeeded, not uncertain" in wrong.err) == (2, True)
    adopted = seedance("queue", "adopt", "--queue", URL, "f", job)
    assert (adopted.code, "1 task handed out again" in adopted.err) == (0, True)
    assert seedance("queue", "uncertain", "--queue", URL).code == 0
    assert queued("shots.csv").code == 0
    assert results()[2]["request_id"] == job
    assert Path(results()[2]["file"]).exists()
    assert len(seedance_emulator.ledger.charged) == 2


def test_what_a_restored_journal_has_forgotten_is_adopted(
    seedance, enqueue, queued, seedance_emulator
):
    assert seedance("generate", "a", "--no-download").code == 0  # what the journal has forgotten
    [job] = [entry.request_id for entry in seedance_emulator.ledger.charged]
    enqueue("a")
    unknown = seedance("queue", "adopt", "--queue", URL, "b", job)
    assert (unknown.code, "has no job with the key b" in unknown.err) == (2, True)
    assert seedance("queue", "adopt", "--queue", URL, "a", job).code == 0
    assert seedance("worker", "--queue", URL, *QUICK, "--until-empty").code == 0
    assert len(seedance_emulator.ledger) == 1
    [entry] = read_entries(JOURNAL)
    assert (entry.request_id, entry.state, Path(entry.path).exists()) == (job, "succeeded", True)


def test_an_uncertain_submit_is_sent_again_if_a_person_says_so(seedance, queued, seedance_emulator):
    seedance_emulator.faults.script("submit", "drop_after_accept", match="A fox")
    assert queued(write()).code == 5
    assert queued("shots.csv").code == 5
    assert seedance_emulator.ledger.charged_prompts()["A fox"] == 1
    assert seedance("queue", "resubmit", "--queue", URL, "--yes", "f").code == 0
    assert queued("shots.csv").code == 0
    assert seedance_emulator.ledger.charged_prompts()["A fox"] == 2


@pytest.fixture
def meanwhile(monkeypatch):
    """Has something done to the journal while `resubmit` asks, or `adopt` queries the server."""

    def when_asked(change):
        async def do():
            journal = SQLiteJournal(JOURNAL, shared=True)
            await journal.open()
            await change(journal, await journal.find("f"))
            await journal.aclose()

        def answer(_):
            thread = threading.Thread(target=asyncio.run, args=[do()])
            thread.start()
            thread.join()
            return "y"

        async def found(*arguments, **options):
            await do()
            return await found_at_server(*arguments, **options)

        monkeypatch.setattr("click.termui.visible_prompt_func", answer)
        monkeypatch.setattr(queue_edit, "found_at_server", found)

    return when_asked


async def accepted(journal, entry):
    await journal.record(entry.attempt, state="queued", request_id="req_late")


async def bought_again(journal, entry):
    await journal.forget(["f"])
    again = Intent("f", entry.fingerprint, entry.request, origin=entry.origin)
    await journal.record(await journal.claim(again), state="queued", request_id="req_new")


async def freed(journal, entry):
    await journal.forget(["f"])


@pytest.mark.parametrize("command", ["resubmit", "adopt"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (accepted, "f is queued, not uncertain"),
        (bought_again, "f is queued, not uncertain"),
        (freed, "f is to be submitted again already"),
    ],
)
def test_what_somebody_else_has_settled_meanwhile_is_left_as_it_is(
    seedance, queued, seedance_emulator, meanwhile, command, change, words
):
    seedance_emulator.faults.script("submit", "drop_after_accept", match="A fox")
    assert queued(write()).code == 5
    meanwhile(change)
    [job] = [e.request_id for e in seedance_emulator.ledger.charged if e.prompt == "A fox"]
    more = [job] if command == "adopt" else []
    done = seedance("queue", command, "--queue", URL, "f", *more)
    assert (done.code, f"{words}; nothing was changed" in done.err) == (2, True)
    known = {entry.key: entry.request_id for entry in read_entries(JOURNAL)}
    assert known.get("f") == {accepted: "req_late", bought_again: "req_new"}.get(change)


def test_tasks_of_lines_that_have_changed_are_not_made_unnoticed(
    seedance, enqueue, queued, seedance_emulator
):
    enqueue("old")
    refused = queued(write())
    assert refused.code == 2
    assert "1 task of the run videos will be made, too, and no line of shots.csv" in refused.err
    assert len(seedance_emulator.ledger) == 0
    cancel = refused.err.partition("To cancel: seedance ")[2].split("\n")[0]
    assert seedance(*cancel.split(), "--yes").code == 0
    assert queued("shots.csv", "--leave-unmatched").code == 0
    assert "old" not in seedance_emulator.ledger.charged_prompts()


def test_a_line_that_is_corrected_while_it_waits_is_made_as_it_is_now(
    seedance, enqueue, queued, seedance_emulator, monkeypatch
):
    enqueue("r", "f")
    assert seedance("queue", "cancel", "--queue", URL, "--run", "videos", "f", "--yes").code == 0
    dry = queued(write(), "--dry-run")
    assert "2 jobs would be submitted" in dry.out
    monkeypatch.setenv("SEEDANCE_ASK_ABOVE", "60")
    refused = queued("shots.csv")
    assert (refused.code, "2 jobs would cost" in refused.err) == (2, True)
    done = queued("shots.csv", "--yes")
    assert (done.code, "0 new, 2 replaced." in done.err) == (0, True)
    assert [results()[number]["prompt"] for number in (1, 2)] == ["A river", "A fox"]
    assert seedance_emulator.ledger.charged_prompts() == {"A river": 1, "A fox": 1}


def test_a_line_that_is_changed_after_it_was_bought_is_told_as_it_was_bought(
    queued, seedance_emulator
):
    assert queued(write()).code == 0
    done = queued(write(SHOTS.replace("river", "lake")))
    assert done.code == 0
    assert "line 1 was bought with another prompt and is not bought again" in done.err
    assert "0 new." in done.err
    assert [results()[number]["prompt"] for number in (1, 2)] == ["A river", "A fox"]
    assert len(seedance_emulator.ledger) == 2


def test_a_line_that_was_bought_with_other_options_is_told_too(queued, seedance_emulator):
    assert queued(write("prompt,duration,key\nA river,4,r\nA fox,4,f\n")).code == 0
    done = queued(write("prompt,duration,key\nA river,5,r\nA fox,4,f\n"))
    assert done.code == 0
    assert "line 1 was bought with duration 4 and is not bought again" in done.err
    assert len(seedance_emulator.ledger) == 2


async def nothing_yet(_place):
    """What the journal had before the jobs were bought."""
    return []


def test_a_line_whose_other_request_is_sent_meanwhile_is_refused(
    queued, seedance_emulator, monkeypatch
):
    assert queued(write()).code == 0
    monkeypatch.setattr(QueuePlace, "entries", nothing_yet)
    refused = queued(write(SHOTS.replace("river", "lake") + "A boat,5,b\n"))
    assert refused.code == 2
    assert "the key 'r' belongs to another request in the run 'videos'" in refused.err
    assert "it is sent, or may be" in refused.err
    assert "give it another key" in refused.err
    assert len(seedance_emulator.ledger) == 2


def test_a_job_that_another_run_has_bought_meanwhile_is_told_as_it_was_bought(
    queued, seedance_emulator, monkeypatch
):
    assert queued(write()).code == 0
    monkeypatch.setattr(QueuePlace, "entries", nothing_yet)
    done = queued(write(SHOTS.replace("river", "lake")), "--run", "other")
    assert done.code == 0
    assert "line 1 was bought with another prompt" in done.err
    assert [results()[number]["prompt"] for number in (1, 2)] == ["A river", "A fox"]
    assert len(seedance_emulator.ledger) == 2


def test_a_key_for_a_line_that_was_bought_without_one_does_not_buy_it_unnoticed(
    seedance, queued, seedance_emulator
):
    assert queued(write("prompt\nA river\nA fox\n")).code == 0
    write("prompt,key\nA river,r\nA fox,f\n")
    dry = queued("shots.csv", "--dry-run")
    refused = queued("shots.csv", "--yes")
    assert (dry.code, refused.code, len(seedance_emulator.ledger)) == (0, 2, 2)
    for text in (dry.out, refused.err):
        assert "2 jobs bought before the line had a key would be bought again" in text
    assert "--leave-unmatched buys" in refused.err
    assert queued("shots.csv", "--leave-unmatched").code == 0
    assert len(seedance_emulator.ledger) == 4


def test_what_no_other_machine_can_make_is_refused(seedance, seedance_emulator):
    Path("a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    write('{"prompt": "a", "mediaUrls": ["https://example.com/a.png"], "key": "a"}\n'
          '{"prompt": "b", "mediaUrls": [{"from": "a"}], "key": "b"}\n', "a.jsonl")  # fmt: skip
    done = seedance("batch", "a.jsonl", "--queue", URL, "--work")
    assert done.code == 2
    assert "a.jsonl, line 2: the request of " in done.err
    assert "cannot be made on another machine" in done.err
    assert not Path("fleet.db").exists()


@for_each(
    ("options", "why"),
    [
        (("--max-credits", "5"), "--max-credits: with --queue, workers make the jobs"),
        (("--max-in-flight", "5", "--timeout", "9"), "--max-in-flight and --timeout: with --queue"),
        (("--poll-interval", "1"), "belongs to `seedance worker`; or pass --work"),
        (("--work", "--no-journal"), "--no-journal cannot be combined with --queue"),
        (("--overwrite",), "give the lines other keys"),
        (("--resubmit-uncertain",), "see `seedance queue uncertain`"),
        (("--tags",), "--tags cannot be combined with --queue"),
        (("--upload", "s3://bucket/in"), "must be URLs"),
    ],
)
def test_options_that_would_be_ignored_are_refused(capsys, options, why):
    code = run(["batch", write(), "--queue", URL, *options])
    assert (code, why in capsys.readouterr().err) == (2, True)
    assert not Path("videos").exists()


def test_options_of_a_queue_need_one(seedance):
    for option in (("--work",), ("--run", "autumn")):
        done = seedance("batch", write(), *option)
        assert (done.code, f"{option[0]} needs --queue" in done.err) == (2, True)
    for url in ("mysql://host/db", "postgresql://host:port/db", "sqlite://fleet.db", "fleet.db"):
        done = seedance("batch", write(), "--queue", url, "--work")
        assert (done.code, "the queue must be at postgresql://" in done.err) == (3, True)
    done = seedance("batch", write(), "--queue", "sqlite:///no/fleet.db", "--work")
    assert (done.code, "the queue cannot be reached" in done.err) == (3, True)


def test_a_run_in_postgres(seedance, seedance_emulator, postgres_dsn):
    assert seedance("batch", write(), "-o", "old").code == 0
    assert seedance("journal", "copy", "old", postgres_dsn).code == 0
    secret = postgres_dsn.replace("postgres@", "postgres:hidden@")
    write(SHOTS + "A boat,5,b\n")
    done = seedance("batch", "shots.csv", "-o", "videos", "--queue", secret, "--work")
    assert done.code == 0
    assert len(seedance_emulator.ledger.charged) == 3
    assert {record["state"] for record in results().values()} == {"succeeded"}
    assert all(Path(record["file"]).parent == Path("videos") for record in results().values())
    shown = seedance("queue", "status", "--queue", secret, "--json").records
    assert [(each["run"], each["ended"]) for each in shown] == [("videos", {"succeeded": 3})]
    assert "hidden" not in done.err
    assert not JOURNAL.exists()


def test_a_batch_that_is_interrupted_while_it_enqueues_says_what_may_be_in_the_queue(
    signalled, seedance_emulator, monkeypatch, capsys
):
    started = threading.Event()

    async def enqueue(*_, run):
        started.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(SeedanceQueue, "enqueue", enqueue)
    signalled(signal.SIGINT, started.is_set)
    code = run(["batch", write(), "--queue", URL, "-o", "my videos"])
    err = capsys.readouterr().err
    assert code == 130
    assert "Some of the tasks may be in the run my videos by now" in err
    assert f"seedance queue cancel --queue {URL} --run 'my videos'" in err
