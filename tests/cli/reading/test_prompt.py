"""What `generate` takes for a prompt."""

from pathlib import Path

import pytest

from tests.support.for_each import for_each

pytestmark = pytest.mark.seedance_emulator(speed=5000, media="shared")


def bought(emulator):
    return [job.body["prompt"] for job in emulator.jobs.values()]


@pytest.mark.parametrize("text", [b"A river\n", b"\n  A river \r\n", "A river".encode("utf-16")])
def test_a_dash_reads_the_prompt_from_standard_input(seedance, seedance_emulator, text):
    assert seedance("generate", "-", "--no-download", stdin=text).code == 0
    assert bought(seedance_emulator) == ["A river"]


@for_each(
    ("text", "why"),
    [
        (b" \n", "has no prompt"),
        (b"A river\nA fox\n", "has 2 lines: `seedance batch -`"),
        (b'{"prompt": "A river"}\n', "does not look like a prompt"),
        (b"prompt\nA river\n", "does not look like a prompt"),
        (b"Prompt;scene\nA river;1\n", "does not look like a prompt"),
        (b"prompt: A river\n", "does not look like a prompt"),
        (b"A r\xefver\n", "must be UTF-8"),
        (b"PK\x03\x04", "is a spreadsheet or another packed file"),
    ],
)
def test_standard_input_that_is_no_single_prompt_is_refused(seedance, seedance_emulator, text, why):
    done = seedance("generate", "-", stdin=text)
    assert (done.code, len(seedance_emulator.ledger)) == (2, 0)
    assert f"standard input {why}" in done.err


@pytest.mark.parametrize("prompt", ["shots.csv", '{"prompt": "A river"}', '["A river"]'])
def test_a_file_or_json_is_no_prompt(seedance, seedance_emulator, prompt):
    Path("shots.csv").write_text("prompt\nA river\n")
    done = seedance("generate", prompt)
    assert (done.code, len(seedance_emulator.ledger)) == (2, 0)
    assert "`seedance batch " in done.err


@pytest.mark.parametrize(
    "prompt", ["A river\n\n[wide]\nprompt: slow", "7", "x" * 5000, "shots.csv"]
)
def test_any_other_argument_is_a_prompt(seedance, seedance_emulator, prompt):
    assert seedance("generate", prompt, "--no-download").code == 0
    assert bought(seedance_emulator) == [prompt]
