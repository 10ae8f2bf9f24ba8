"""What the tests of the commands share."""

import pytest

from tests.cli.conftest import entries, write_prompts


@pytest.fixture
def accepted(seedance, seedance_emulator):
    """Submit prompts and leave the jobs running; their ids."""

    def submit(*prompts):
        seedance_emulator.faults.script("job", "stuck", match="stuck", times=None)
        for prompt in prompts:
            seedance("generate", prompt, "--no-download", "--timeout", "0.2")
        return [job.request_id for job in seedance_emulator.jobs.values()]

    return submit


@pytest.fixture
def key(seedance, seedance_emulator):
    """A batch of three with one lost submit; the key of that."""
    write_prompts(3)
    seedance_emulator.faults.script("submit", "drop_after_accept", match="prompt 2")
    assert seedance("batch", "prompts.txt").code == 5
    (uncertain,) = entries(state="uncertain")
    return uncertain.key
