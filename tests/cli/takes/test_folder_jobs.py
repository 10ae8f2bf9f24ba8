"""`seedance cancel` and `status` with the folder of a batch, against a real emulator."""

from pathlib import Path

import pytest

from seedance_async.cli import tables
from tests.cli.conftest import entries, write_prompts
from tests.cli.takes.conftest import outcomes


@pytest.fixture
def running(seedance, seedance_emulator):
    """A batch of four whose jobs, but the first, go on at the server; their ids by line."""
    write_prompts(4)
    for number in (2, 3, 4):
        seedance_emulator.faults.script("job", "stuck", match=f"prompt {number}", times=None)
    assert seedance("batch", "prompts.txt", "--timeout", "0.3").code == 5
    return {line: record["request_id"] for (line, _), record in outcomes().items()}


def states(emulator):
    return {job.body["prompt"][-1]: str(job.status) for job in emulator.jobs.values()}


def test_lines_are_cancelled_by_their_numbers(seedance, seedance_emulator, running):
    done = seedance("cancel", "videos", "3-4")
    assert (done.code, set(done.out.splitlines())) == (
        0,
        {f"line {line} {running[line]} cancelled" for line in (3, 4)},
    )
    assert states(seedance_emulator) == {
        "1": "succeeded", "2": "processing", "3": "cancelled", "4": "cancelled",
    }  # fmt: skip
    assert seedance("cancel", "videos", "3", "--json").records[0]["line"] == 3
    assert seedance("batch", "prompts.txt", "--timeout", "0.3").code == 5
    assert outcomes()[3, 1]["state"] == "cancelled"
    assert len(seedance_emulator.ledger) == 4


def test_all_jobs_of_a_folder_are_cancelled(seedance, seedance_emulator, running):
    done = seedance("cancel", "--all", "videos")
    assert done.code == 0
    assert len(done.out.splitlines()) == 3
    assert set(states(seedance_emulator).values()) == {"succeeded", "cancelled"}
    assert seedance("resume", "videos").code == 1
    done = seedance("cancel", "--all", "videos")
    assert (done.code, done.out) == (0, "")
    assert "Nothing to cancel: 4 jobs ended before." in done.err


def test_only_jobs_in_a_state_are_cancelled(seedance, seedance_emulator, running):
    done = seedance("cancel", "videos", "--state", "queued")
    assert done.code == 0
    assert sorted(done.out.splitlines()) == [
        f"line {line} {running[line]} processing" for line in (2, 3, 4)
    ]
    assert "cancelled" not in states(seedance_emulator).values()
    assert seedance("cancel", "videos", "2", "--state", "processing").code == 0
    assert states(seedance_emulator)["2"] == "cancelled"


def test_takes_are_cancelled_with_their_line(seedance, seedance_emulator, running):
    assert seedance("reroll", "2", "--timeout", "0.2").code == 5
    done = seedance("cancel", "videos", "2")
    assert done.code == 0
    assert sorted(line.split(" req_")[0] for line in done.out.splitlines()) == [
        "line 2", "line 2 take 2",
    ]  # fmt: skip


def test_a_submit_in_doubt_cannot_be_cancelled(seedance, seedance_emulator):
    write_prompts(1)
    seedance_emulator.faults.script("submit", "drop_after_accept")
    assert seedance("batch", "prompts.txt").code == 5
    done = seedance("cancel", "videos", "1")
    assert "line 1 is uncertain: without an id, nobody can cancel" in done.err


#: What is wrong with the words, and what is said of it.
WRONG = [
    (["videos"], "name lines of videos, or a --state, or --all; nothing was done"),
    (["--all", "req_1"], "--all needs the folder of a batch, and req_1 is none"),
    (["req_1", "--state", "queued"], "--state needs the folder of a batch"),
    (["videos", "9"], "the batch of this folder has no line 9"),
    (["videos", "3-1"], "the range 3-1 is backwards"),
    (["nodir", "1"], "nodir is no folder, so it has no line 1"),
    (["config", "2-4", "7"], "config has no journal, so it has no line 2-4 7"),
]


def test_what_names_no_job_cancels_none(seedance, seedance_emulator, running):
    Path("config").mkdir()
    for words, message in WRONG:
        done = seedance("cancel", *words)
        assert done.code == 2
        assert message in done.err
    assert "nodir is no folder" in seedance("status", "nodir", "1").err
    assert "cancelled" not in states(seedance_emulator).values()


# --- status ---------------------------------------------------------------------------------------


def test_the_jobs_of_a_folder_are_shown_as_the_server_has_them(
    seedance, seedance_emulator, running
):
    seedance_emulator.jobs.finish(running[4])
    before = entries()
    done = seedance("status", "videos")
    assert done.code == 0
    heading, *rows = done.out.splitlines()
    assert heading.split() == ["line", "state", "request", "id", "credits", "file", "prompt"]
    assert [row.split()[:4] for row in rows] == [
        ["1", "succeeded", running[1], "40"],
        ["2", "processing", running[2], "40"],
        ["3", "processing", running[3], "40"],
        ["4", "succeeded", running[4], "40"],
    ]
    assert f"0001-{running[1]}.mp4" in rows[0]
    assert "4 jobs: 2 succeeded, 2 processing; 160 credits charged" in done.err
    assert "1 video made meanwhile; seedance resume videos saves them." in done.err
    assert entries() == before, "nothing is recorded"


def test_a_table_fits_the_terminal(seedance, seedance_emulator, running, monkeypatch):
    seedance_emulator.jobs.finish(running[2])
    assert seedance("reroll", "videos", "1").code == 0
    for module in ("folder_status", "journal"):
        monkeypatch.setattr(f"seedance_async.cli.commands.{module}.terminal_width", lambda: 80)
    for command in (("status", "videos"), ("journal", "show", "videos")):
        lines = seedance(*command).out.splitlines()
        assert len(lines) == 6
        assert max(map(len, lines)) <= 80
    assert seedance("status", "videos").out.splitlines()[2].split()[:3] == ["1", "2", "succeeded"]


def test_the_width_is_that_of_the_terminal(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "81")
    assert tables.terminal_width() == 81


def test_lines_of_a_folder_are_shown_as_json(seedance, seedance_emulator, running):
    (record,) = seedance("status", "videos", "2", "--json").records
    assert (record["line"], record["take"], record["state"]) == (2, 1, "processing")
    assert record["request_id"] == running[2]


def test_a_folder_without_running_jobs_needs_no_server(seedance, seedance_emulator, monkeypatch):
    write_prompts(1)
    seedance_emulator.faults.script("job", "failed")
    assert seedance("batch", "prompts.txt").code == 1
    Path("videos/lines.jsonl").unlink()
    monkeypatch.delenv("SEEDANCE_API_KEY")
    done = seedance("status", "videos")
    assert done.code == 1
    assert done.out.splitlines()[1].split()[:2] == ["-", "failed"]


def test_a_job_that_cannot_be_queried_is_shown_as_it_was_recorded(
    seedance, seedance_emulator, running
):
    seedance_emulator.faults.script("poll", "unauthorized", times=None)
    done = seedance("status", "videos")
    assert done.code == 4
    assert done.out.count("abandoned") + done.out.count("queued/processing") == 3
    assert "3 jobs could not be queried: " in done.err


def test_the_options_for_ids_do_not_go_with_a_folder(seedance, seedance_emulator, running):
    done = seedance("status", "videos", "--wait")
    assert done.code == 2
    assert "seedance resume videos" in done.err


def test_a_key_that_was_cut_for_the_table_is_known(seedance, seedance_emulator, running):
    key = entries()[0].key
    cut = tables.shortened(key, 13, keep_end=True)
    assert "…" in cut
    done = seedance("journal", "forget", "--yes", cut)
    assert (done.code, len(entries())) == (0, 3)
    assert seedance("journal", "forget", "--yes", "--force", "…-1").code == 2, "three are alike"
