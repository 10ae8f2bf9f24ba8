"""Completion in a shell: its script, and what is offered from the user's journals."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from seedance_async.cli import app
from seedance_async.cli.commands.completion import COMPLETING
from tests.cli.conftest import entries, write_prompts


def offered(*words):
    """What a shell is offered for the last of these words, beside all folders."""
    complete = ShellComplete(app.cli, {}, "seedance", COMPLETING)
    found = complete.get_completions(list(words[:-1]), words[-1])
    assert "dir" not in {item.type for item in found[1:]}, "bash would drop what came before"
    return [item.value for item in found if item.type == "plain"]


@pytest.fixture
def bought(seedance, seedance_emulator):
    """A batch with one job that goes on and one in doubt, and a single job; their ids."""
    write_prompts(3)
    seedance_emulator.faults.script("job", "stuck", match="prompt 2")
    seedance_emulator.faults.script("submit", "drop_after_accept", match="prompt 3")
    seedance("batch", "prompts.txt", "--timeout", "0.2")
    assert seedance("generate", "a fox", "--no-download").code == 0
    return {entry.prompt: entry.request_id for entry in seedance_emulator.ledger}


def test_ids_of_all_the_users_jobs_are_offered(bought):
    assert offered("status", "req_") == [bought[p] for p in ("a fox", "prompt 2", "prompt 1")]
    assert offered("cancel", "req_") == [bought["prompt 2"]]
    assert offered("status", bought["a fox"], "vid") == []


def test_folders_lines_and_keys_are_offered(bought):
    assert offered("cancel", "v") == ["videos"]
    assert offered("cancel", "videos", "") == ["1", "2", "3"]
    assert offered("reroll", "vi") == ["videos"]
    assert offered("reroll", "videos", "1", "") == ["1", "2", "3"]
    keys = [entry.key for entry in reversed(entries())]
    assert offered("journal", "forget", "videos", "") == keys
    assert offered("journal", "forget", "--journal", "videos", "") == keys
    assert offered("journal", "forget", "videos", keys[0], "") == keys[1:]
    (doubtful,) = entries(state="uncertain")
    assert offered("journal", "adopt", "videos", "") == [doubtful.key]
    assert offered("journal", "adopt", "videos", doubtful.key, "") == []


def test_a_journal_that_cannot_be_read_offers_nothing(bought):
    for place in ("videos/run.db", "videos/lines.jsonl"):
        Path(place).write_bytes(b"nonsense")
    assert offered("journal", "forget", "videos", "") == []
    assert offered("reroll", "videos", "") == []
    assert offered("status", "req_") == [bought["a fox"]]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed(seedance, shell):
    done = seedance("completion", shell)
    assert done.code == 0
    assert f"{COMPLETING}={shell}_complete" in done.out
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=done.out, text=True, check=True, timeout=20)


def test_the_command_answers_the_script(bought):
    asked = {COMPLETING: "bash_complete", "COMP_WORDS": "seedance status req_", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "seedance_async.cli"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"plain,{bought['a fox']}\n" in done.stdout
    assert done.stderr == ""
