"""Takes of a batch: each is bought once, however often and in whatever number it is asked for."""

from pathlib import Path

from seedance_async.cli.takes.keys import split_key, take_key
from tests.cli.conftest import entries, write_prompts
from tests.cli.takes.conftest import outcomes, prompts
from tests.support.for_each import for_each


def test_more_takes_buy_only_those_that_are_missing(seedance, seedance_emulator):
    write_prompts(2)
    for takes, bought in ((1, 1), (2, 2), (2, 2), (4, 4), (4, 4)):
        done = seedance("batch", "prompts.txt", "--takes", str(takes))
        assert done.code == 0
        assert prompts(seedance_emulator) == {"prompt 1": bought, "prompt 2": bought}
    assert "8 takes of 2 lines of prompts.txt in " in done.err
    assert "Resuming: 8 takes of 2 lines" not in done.err
    assert "Resuming: 8 of 8 takes of 2 lines were sent in earlier runs" in done.err
    found = outcomes()
    assert set(found) == {(line, take) for line in (1, 2) for take in (1, 2, 3, 4)}
    assert len({record["request_id"] for record in found.values()}) == 8
    for (line, take), record in found.items():
        middle = "" if take == 1 else f"take{take}-"
        assert Path(record["file"]).name == f"{line:04d}-{middle}{record['request_id']}.mp4"
        assert Path(record["file"]).stat().st_size > 1000
    assert len(seedance_emulator.media_requests) == 8
    assert "8 jobs; 320 credits charged" in seedance("history").err


def test_fewer_takes_than_before_forget_none(seedance, seedance_emulator):
    write_prompts(1)
    assert seedance("batch", "prompts.txt", "--takes", "3").code == 0
    assert seedance("batch", "prompts.txt").code == 0
    assert set(outcomes()) == {(1, 1), (1, 2), (1, 3)}
    assert len(seedance_emulator.ledger) == 3


def test_each_of_two_equal_lines_has_takes_of_its_own(seedance, seedance_emulator):
    Path("prompts.txt").write_text("a fox\na fox\n")
    assert seedance("batch", "prompts.txt", "--takes", "2").code == 0
    first = {place: record["request_id"] for place, record in outcomes().items()}
    assert seedance("batch", "prompts.txt", "--takes", "3").code == 0
    assert prompts(seedance_emulator) == {"a fox": 6}
    assert {place: record["request_id"] for place, record in outcomes().items()}.items() >= (
        first.items()
    )


def test_the_limit_counts_all_takes_and_the_first_of_each_line_comes_first(
    seedance, seedance_emulator
):
    write_prompts(3)
    options = ("--takes", "2", "--max-credits", "160", "--max-in-flight", "1")
    assert seedance("batch", "prompts.txt", *options).code == 4
    states = {place: record["state"] for place, record in outcomes().items()}
    assert states == {
        (1, 1): "succeeded",
        (2, 1): "succeeded",
        (3, 1): "succeeded",
        (1, 2): "succeeded",
        (2, 2): "not_submitted",
        (3, 2): "not_submitted",
    }
    assert seedance_emulator.ledger.credits_charged == 160


def test_a_take_that_failed_is_named_by_line_and_take(seedance, seedance_emulator):
    write_prompts(1)
    assert seedance("batch", "prompts.txt").code == 0
    seedance_emulator.faults.script("job", "failed")
    done = seedance("batch", "prompts.txt", "--takes", "2")
    assert done.code == 1
    assert "\n  line 1 take 2 req_" in done.err


def test_takes_without_a_journal_are_jobs_of_their_own(seedance, seedance_emulator):
    write_prompts(1)
    assert seedance("batch", "prompts.txt", "--takes", "2", "--no-journal").code == 0
    assert prompts(seedance_emulator) == {"prompt 1": 2}
    assert not Path("videos/lines.jsonl").exists()


def test_a_dry_run_counts_the_takes(seedance, seedance_emulator):
    write_prompts(2)
    assert "6 jobs would be" in seedance("batch", "prompts.txt", "--takes", "3", "--dry-run").out


def test_a_line_with_the_key_of_anothers_take_is_refused(seedance, seedance_emulator):
    Path("a.csv").write_text("key,prompt\nshot,x\nshot.take2,y\n")
    assert seedance("batch", "a.csv").code == 0
    assert seedance("batch", "a.csv").code == 0, "they are two lines, as before"
    assert len(entries()) == 2
    done = seedance("batch", "a.csv", "--takes", "2")
    assert done.code == 2
    assert "line 2: its key “shot.take2” is that of take 2 of line 1; nothing was sent" in done.err
    assert len(seedance_emulator.ledger) == 2


@for_each("key", ["shot", "shot.take", "shot.take1", "shot.take0", ".take2", ""])
def test_a_key_of_a_line_is_that_of_its_first_take(key):
    assert split_key(key) == (key, 1)
    for take in (1, 2, 10):
        assert split_key(take_key(key or "x", take)) == (key or "x", take)
