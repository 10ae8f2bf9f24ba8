"""Killed writers, full disks, forks: what was acknowledged is there, and no entry is half."""

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from seedance_async import JournalError
from seedance_async.journal import SQLiteJournal, read_entries
from tests.conftest import SEED

WRITER = Path(__file__).with_name("writing_process.py")
KILLS = 10
ORDER = ["submitting", "queued", "succeeded"]


def start(path, run):
    return subprocess.Popen(
        [sys.executable, WRITER, path, str(run)], stdout=subprocess.PIPE, text=True
    )


def killed_after(process, lines):
    """Kill the writer after so many lines of output, and return all its output."""
    output = [process.stdout.readline() for _ in range(lines)]
    process.kill()
    output += process.communicate(timeout=60)[0].splitlines(keepends=True)
    return [line.split() for line in output if line.endswith("\n")][1:]


def assert_whole(entry):
    """The entry has the intent alone, or also a whole acceptance, or also a whole result."""
    run_worker, _, number = entry.key.rpartition("-")
    accepted = (f"req_{entry.key}", int(number))
    reached = ORDER.index(entry.state)
    assert (entry.request_id, entry.credits_charged) == (accepted if reached > 0 else (None, None))
    assert entry.output_url == (f"{entry.key}.mp4" if reached > 1 else None)
    assert run_worker


def test_a_writer_killed_at_any_instant_loses_nothing_that_was_acknowledged(path):
    rng = random.Random(SEED)
    acknowledged = {}
    for run in range(KILLS):
        process = start(path, run)
        for key, state in killed_after(process, rng.choice([1, 2, 9, 60, 400, 1500])):
            acknowledged[key] = max(acknowledged.get(key, 0), ORDER.index(state))
        entries = {entry.key: entry for entry in read_entries(path)}
        for entry in entries.values():
            assert_whole(entry)
        missing = {k for k, r in acknowledged.items() if ORDER.index(entries[k].state) < r}
        assert missing == set()
    assert len(acknowledged) > 100


async def test_a_killed_writer_no_longer_holds_the_lock_and_a_living_one_does(path):
    process = start(path, 0)
    try:
        assert process.stdout.readline() == "open\n"
        with pytest.raises(JournalError, match="it is in use") as caught:
            await SQLiteJournal(path).open()
        assert caught.value.path == str(path)
    finally:
        process.kill()
        process.communicate(timeout=60)
    journal = SQLiteJournal(path)
    await journal.open()
    await journal.aclose()


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


FULL_DISK = """
import asyncio, os, resource, sys
from seedance_async import JournalError
from seedance_async.journal import Intent, SQLiteJournal

async def main(path):
    journal = SQLiteJournal(path)
    await journal.open()
    await journal.claim(Intent("a", "f", "{}"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = os.path.getsize(path + "-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (full, limits[1]))
    errors = await asyncio.gather(
        journal.record(1, state="queued", request_id="req_1"),
        journal.claim(Intent("b", "f", "{}")),
        journal.find("a"),
        return_exceptions=True,
    )
    for error in errors:
        assert type(error) is JournalError, errors
        print(error.path, error.request_id)
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    print((await journal.find("a")).state, await journal.find("b"))
    await journal.record(1, state="queued", request_id="req_1")
    await journal.claim(Intent("b", "f", "{}"))
    await journal.aclose()

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes there")
def test_a_full_disk_fails_every_call_and_writes_work_again_once_there_is_room(path):
    output = run(FULL_DISK, str(path))
    assert output[:2] == [f"{path} req_1", f"{path} None"]
    assert output[-1] == "submitting None"
    assert [entry.state for entry in read_entries(path)] == ["queued", "submitting"]


FORK = """
import asyncio, os, sys, warnings
from seedance_async import JournalError
from seedance_async.journal import Intent, SQLiteJournal
warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads

async def main(path):
    journal = SQLiteJournal(path)
    await journal.open()
    await journal.claim(Intent("a", "f", "{}"))
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            for call in (journal.find("a"), journal.aclose()):
                try:
                    await call
                except JournalError as error:
                    print("process" in str(error))
            sys.stdout.flush()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    await journal.record(1, state="queued")
    await journal.aclose()

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork there")
def test_a_forked_child_cannot_use_the_journal_and_its_parent_still_can(path):
    assert run(FORK, str(path)) == ["True", "True"]
    assert [entry.state for entry in read_entries(path)] == ["queued"]


LEFT_OPEN = """
import asyncio, sys
from seedance_async.journal import Intent, SQLiteJournal

async def main(path):
    journal = SQLiteJournal(path)
    await journal.open()
    await journal.claim(Intent("a", "f", "{}"))
    return journal

kept = asyncio.run(main(sys.argv[1]))
"""


def test_a_process_ends_even_if_its_journal_was_never_closed(path):
    assert run(LEFT_OPEN, str(path)) == []
    assert [entry.key for entry in read_entries(path)] == ["a"]


def test_a_journal_that_was_never_closed_is_opened_by_the_next_run(path):
    run(LEFT_OPEN, str(path))

    async def next_run():
        journal = SQLiteJournal(path)
        await journal.open()
        found = await journal.find("a")
        await journal.aclose()
        return found.state

    assert asyncio.run(next_run()) == "submitting"
