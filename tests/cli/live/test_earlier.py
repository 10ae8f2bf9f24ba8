"""What is expected by the user's earlier runs."""

from pathlib import Path

from seedance_async import GenerationRequest
from seedance_async.cli.live.earlier import earlier_times

KIND = GenerationRequest("any", duration=4).kind


def test_jobs_that_succeeded_at_this_api_count_whichever_command_bought_them(
    seedance, seedance_emulator
):
    assert earlier_times(seedance_emulator.url) == []
    seedance_emulator.faults.script("job", "failed", match="fox")
    Path("prompts.txt").write_text("A river\nA fox\n")
    seedance("batch", "prompts.txt", "--duration", "4")
    seedance("generate", "A lake", "--duration", "4")
    found = earlier_times(seedance_emulator.url)
    assert [kind for kind, _ in found] == [KIND, KIND]
    assert all(0 < seconds < 60 for _, seconds in found)
    assert earlier_times("https://another.example") == []


def test_a_journal_that_is_gone_or_damaged_is_no_trouble(seedance, seedance_emulator):
    Path("prompts.txt").write_text("A river\n")
    seedance("batch", "prompts.txt")
    Path("videos/run.db").write_bytes(b"no journal")
    assert earlier_times(seedance_emulator.url) == []
    Path("videos/run.db").unlink()
    assert earlier_times(seedance_emulator.url) == []
