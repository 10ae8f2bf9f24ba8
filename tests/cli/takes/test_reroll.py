"""`seedance reroll`: one more take of a line, and never a second one by accident."""

import json
import signal
from pathlib import Path

import pytest

from seedance_async.cli.takes.folder_lines import read_folder_lines
from seedance_async.cli.takes.rerolls import Reroll, Rerolls
from seedance_async.journal import read_entries
from seedance_async.journal.lock import WriteLock
from tests.cli.conftest import (
    JOURNAL,
    QUICK,
    command,
    emulator,
    entries,
    finish_all,
    recorded,
    stuck,
    write_prompts,
)
from tests.cli.takes.conftest import outcomes, prompts

FOLDER = Path("videos")
BEGUN = FOLDER / "rerolls"


@pytest.fixture
def three(seedance, seedance_emulator):
    """A batch of three lines that has ended."""
    write_prompts(3)
    assert seedance("batch", "prompts.txt").code == 0
    return seedance_emulator


def begun():
    return list(BEGUN.glob("*"))


def begin(keys, **changes):
    """As if the command had been killed once this was on record, whatever it had bought."""
    Rerolls.read(FOLDER, read_folder_lines(FOLDER), read_entries(JOURNAL)).begin(
        Reroll(sorted(keys), changes, keys)
    )


def key_of(line):
    return read_folder_lines(FOLDER)[line].key


# --- killed ---------------------------------------------------------------------------------------


def reroll(served, *args):
    return command("reroll", *args, *QUICK, served=served)


async def test_a_killed_reroll_is_resumed_by_the_same_words_and_buys_nothing_twice():
    write_prompts(4)
    async with emulator() as served:
        async with command("batch", "prompts.txt", *QUICK, served=served) as process:
            assert (await process.done()).code == 0
        stuck(served, 2)
        async with reroll(served, "videos", "1", "3-4", "--max-in-flight", "2") as process:
            await process.until("Rerolling: take 2 of line 1, take 2 of line 3, take 2 of line 4.")
            await recorded(served, 2)
            process.send(signal.SIGKILL)
            assert (await process.done()).code == -signal.SIGKILL
        assert len(begun()) == 1
        finish_all(served)
        async with reroll(served, "videos", "3-4", "1") as process:
            done = await process.done()
        assert done.code == 0
        assert "Resuming a reroll that was not finished: take 2 of line 1" in done.err
        assert "The reroll is finished: the same command would buy one more take." in done.err
        assert prompts(served) == {"prompt 1": 2, "prompt 2": 1, "prompt 3": 2, "prompt 4": 2}
        assert begun() == []
        found = outcomes()
        assert set(found) == {(1, 1), (2, 1), (3, 1), (4, 1), (1, 2), (3, 2), (4, 2)}
        assert {record["state"] for record in found.values()} == {"succeeded"}
        assert len(list(FOLDER.glob("*.mp4"))) == 7


def test_a_reroll_in_doubt_is_not_bought_again(seedance, three):
    three.faults.script("submit", "drop_after_accept")
    for _ in range(3):
        done = seedance("reroll", "1")
        assert done.code == 5
        assert "The reroll is not finished. To resume it: seedance reroll videos 1" in done.err
    assert len(three.ledger) == 4
    refused = seedance("reroll", "1", "--prompt", "another")
    assert refused.code == 2
    assert "take 2 of line 1 is uncertain, and its reroll is not done" in refused.err
    assert len(three.ledger) == 4
    assert seedance("reroll", "1", "--take", "3").code == 0
    assert seedance("reroll", "1", "--resubmit-uncertain").code == 0
    assert prompts(three)["prompt 1"] == 4
    assert begun() == []


def test_one_that_was_killed_before_anything_was_sent_buys_the_takes_on_record(seedance, three):
    begin({1: f"{key_of(1)}.take5"})
    assert seedance("reroll", "1").code == 0
    assert set(outcomes()) == {(1, 1), (2, 1), (3, 1), (1, 5)}
    assert prompts(three)["prompt 1"] == 2


def test_one_that_was_killed_after_all_was_saved_buys_nothing(seedance, three):
    assert seedance("reroll", "1", "2").code == 0
    begin({line: f"{key_of(line)}.take2" for line in (1, 2)})
    done = seedance("reroll", "1", "2")
    assert (done.code, len(three.ledger)) == (0, 5)
    assert "Resuming: 2 of 2 lines were sent in earlier runs" in done.err
    assert seedance("reroll", "1", "2").code == 0
    assert len(three.ledger) == 7
    assert set(outcomes()) == {(line, 1) for line in (1, 2, 3)} | {
        (line, take) for line in (1, 2) for take in (2, 3)
    }


def test_a_reroll_beside_a_run_that_writes_the_journal_leaves_no_trace(seedance, three):
    lock = WriteLock(JOURNAL.absolute())
    lock.acquire()
    try:
        done = seedance("reroll", "1")
    finally:
        lock.release()
    assert done.code == 3
    assert "it is in use: another run writes it" in done.err
    assert (begun(), len(three.ledger)) == ([], 3)


def insert_above():
    """The same lines, each with the next number."""
    text = Path("prompts.txt").read_text(encoding="utf-8")
    Path("prompts.txt").write_text(f"another\n{text}", encoding="utf-8")


def test_a_reroll_in_doubt_is_known_when_its_line_has_moved(seedance, three):
    three.faults.script("submit", "drop_after_accept")
    assert seedance("reroll", "1").code == 5
    insert_above()
    assert seedance("batch", "prompts.txt", "--leave-unmatched").code == 5
    refused = seedance("reroll", "2", "--prompt", "other")
    assert refused.code == 2
    assert "take 2 of line 2 is uncertain, and its reroll is not done" in refused.err
    assert "seedance reroll videos 2 resumes that" in refused.err
    assert seedance("reroll", "2").code == 5
    assert prompts(three) == {"prompt 1": 2, "prompt 2": 1, "prompt 3": 1, "another": 1}
    assert seedance("reroll", "2", "--resubmit-uncertain").code == 0
    assert begun() == []
    assert prompts(three)["prompt 1"] == 3


def test_a_reroll_that_runs_is_resumed_when_its_line_has_moved(seedance, three):
    three.faults.script("job", "stuck", match="prompt 1")
    assert seedance("reroll", "1", "--timeout", "0.2").code == 5
    insert_above()
    assert seedance("batch", "prompts.txt", "--timeout", "0.2").code == 5
    finish_all(three)
    assert seedance("reroll", "2").code == 0
    assert begun() == []
    assert prompts(three)["prompt 1"] == 2


def test_one_that_was_killed_before_anything_was_sent_goes_on_when_its_line_has_moved(
    seedance, three
):
    begin({1: f"{key_of(1)}.take2"})
    insert_above()
    assert seedance("batch", "prompts.txt").code == 0
    done = seedance("reroll", "2")
    assert done.code == 0
    assert "Resuming a reroll that was not finished: take 2 of line 2." in done.err
    assert begun() == []
    assert seedance("reroll", "2").code == 0
    assert (2, 3) in outcomes()


def test_what_a_reroll_was_for_is_kept_until_its_line_comes_back(seedance, three):
    begin({1: f"{key_of(1)}.take2", 2: f"{key_of(2)}.take2"})
    text = Path("prompts.txt").read_text(encoding="utf-8")
    Path("prompts.txt").write_text(text.partition("\n")[2], encoding="utf-8")
    assert seedance("batch", "prompts.txt").code == 0
    assert seedance("reroll", "1").code == 0
    assert (outcomes()[1, 2]["prompt"], len(begun())) == ("prompt 2", 1)
    assert "Rerolling: take 3 of line 1." in seedance("reroll", "1").err
    Path("prompts.txt").write_text(text, encoding="utf-8")
    assert seedance("batch", "prompts.txt").code == 0
    assert "not finished: take 2 of line 1." in seedance("reroll", "1").err
    assert begun() == []


# --- again, or one more ---------------------------------------------------------------------------


def test_a_reroll_that_is_done_buys_one_more_of_each_line(seedance, three):
    for take in (2, 3):
        done = seedance("reroll", "videos", "2-3")
        assert done.code == 0
        assert f"Rerolling: take {take} of line 2, take {take} of line 3." in done.err
        assert begun() == []
    assert prompts(three) == {"prompt 1": 1, "prompt 2": 3, "prompt 3": 3}
    name = Path(outcomes()[2, 3]["file"]).name
    assert name == f"0002-take3-{outcomes()[2, 3]['request_id']}.mp4"
    assert "7 jobs; 280 credits charged" in seedance("history").err


def test_a_numbered_take_is_bought_once_for_good(seedance, three):
    for _ in range(3):
        assert seedance("reroll", "videos", "1", "--take", "2").code == 0
    assert prompts(three)["prompt 1"] == 2
    done = seedance("reroll", "videos", "1", "--take", "2", "--prompt", "other")
    assert done.code == 2
    assert "take 2 of line 1 was bought with another prompt, other options or from" in done.err
    assert len(three.ledger) == 4


def test_another_prompt_and_other_options_are_those_of_the_take_alone(seedance, three):
    options = ("--prompt", "a fox", "--duration", "8", "--resolution", "480p")
    assert seedance("reroll", "2", *options).code == 0
    last = list(three.ledger)[-1]
    assert last.prompt == "a fox"
    assert (last.body["duration"], last.body["resolution"]) == (8, "480p")
    assert outcomes()[2, 2]["prompt"] == "a fox"
    assert seedance("batch", "prompts.txt", "--takes", "2").code == 0
    assert prompts(three) == {"prompt 1": 2, "prompt 2": 1, "prompt 3": 2, "a fox": 1}
    assert outcomes()[2, 2]["prompt"] == "a fox"


def test_the_batch_itself_resumes_and_reports_a_reroll(seedance, three):
    three.faults.script("job", "stuck", match="prompt 1")
    assert seedance("reroll", "1", "--timeout", "0.2").code == 5
    finish_all(three)
    done = seedance("batch", "prompts.txt")
    assert done.code == 0
    assert outcomes()[1, 2]["state"] == "succeeded"
    assert "jobs of earlier runs may be running" not in done.err
    assert len(three.ledger) == 4


def test_other_words_for_a_line_whose_reroll_is_not_done_are_refused(seedance, three):
    three.faults.script("job", "stuck", match="prompt 2")
    done = seedance("reroll", "1-2", "--timeout", "0.2")
    assert done.code == 5
    again = "seedance reroll videos 1-2"
    assert f"The reroll is not finished. To resume it: {again}\n" in done.err
    done = seedance("reroll", "2-3")
    assert done.code == 2
    assert f"its reroll is not done: {again} resumes that. --take 3 buys another one" in done.err
    assert len(three.ledger) == 5
    assert seedance("reroll", "1", "3").code == 0, "these are done, or were not in it"
    assert seedance("reroll", "2", "--take", "3").code == 0
    finish_all(three)
    assert seedance("reroll", "1-2").code == 0
    assert prompts(three) == {"prompt 1": 3, "prompt 2": 3, "prompt 3": 2}


def test_a_refused_reroll_costs_nothing_and_can_be_changed(seedance, three):
    assert seedance("reroll", "1", "--yes", "--model", "nobody-knows-it").code == 1
    assert outcomes()[1, 2]["state"] == "rejected"
    assert begun() == []
    assert seedance("reroll", "1", "--prompt", "a fox").code == 0
    assert outcomes()[1, 2]["prompt"] == "a fox"
    assert prompts(three)["a fox"] == 1


def test_what_a_limit_left_out_is_bought_by_the_same_words_alone(seedance, three):
    limited = ("--max-credits", "160", "--max-in-flight", "1")
    assert seedance("reroll", "1-2", *limited).code == 4
    assert {record["state"] for record in outcomes().values()} == {"succeeded", "not_submitted"}
    assert seedance("reroll", "1-2").code == 0
    assert prompts(three) == {"prompt 1": 2, "prompt 2": 2, "prompt 3": 1}


def test_takes_are_named_by_a_template(seedance, three):
    template = ("--name", "{line:03}-{slug}-{take}", "--tags")
    assert seedance("reroll", "2", *template).code == 0
    assert outcomes()[2, 2]["file"] == str(FOLDER / "002-prompt-2-2.mp4")
    assert b"take2" in (FOLDER / "002-prompt-2-2.mp4").read_bytes(), "its sidecar is in its tags"
    done = seedance("reroll", "2", "--name", "002-prompt-2-2")
    assert (done.code, len(three.ledger)) == (2, 4)


def test_a_line_may_be_rerolled_although_its_first_take_failed(seedance, seedance_emulator):
    write_prompts(1)
    seedance_emulator.faults.script("job", "failed")
    assert seedance("batch", "prompts.txt").code == 1
    assert seedance("reroll", "1").code == 0
    assert {place: record["state"] for place, record in outcomes().items()} == {
        (1, 1): "failed",
        (1, 2): "succeeded",
    }


def test_the_next_take_is_not_the_key_of_another_line(seedance, seedance_emulator):
    Path("a.csv").write_text("key,prompt,who\nshot,x,Anna\nshot.take2,y,Bert\n")
    assert seedance("batch", "a.csv").code == 0
    assert seedance("reroll", "1").code == 0
    assert outcomes()[1, 3]["key"] == "shot.take3"
    assert outcomes()[1, 3]["columns"] == {"who": "Anna"}
    assert seedance("reroll", "1", "--take", "2").code == 2


def test_pictures_of_this_machine_are_found_again(seedance, seedance_emulator, tmp_path):
    from tests.support.pictures import PNG

    Path("shots").mkdir()
    Path("shots/river.png").write_bytes(PNG)
    line = {"prompt": "a river", "media_urls": ["river.png"]}
    Path("shots/a.jsonl").write_text(json.dumps(line))
    assert seedance("batch", "shots/a.jsonl").code == 0
    assert seedance("reroll", "1").code == 0
    first, second = (entry.body["mediaUrls"] for entry in seedance_emulator.ledger)
    assert first[0].partition("?")[0] == second[0].partition("?")[0]
    Path("shots/river.png").unlink()
    done = seedance("reroll", "1")
    assert done.code == 2
    assert "line 1: media_urls[0]: " in done.err
    assert len(seedance_emulator.ledger) == 2


@pytest.mark.parametrize("key", [{}, {"key": "shot"}])
def test_a_picture_that_was_replaced_is_not_bought_unasked(
    seedance, seedance_emulator, tmp_path, key
):
    from tests.support.pictures import PNG

    picture = Path("river.png")
    picture.write_bytes(PNG)
    Path("a.jsonl").write_text(json.dumps({**key, "prompt": "x", "media_urls": ["river.png"]}))
    assert seedance("batch", "a.jsonl").code == 0
    picture.write_bytes(PNG + b"another")
    refused = seedance("reroll", "1", "--yes")
    assert refused.code == 2
    assert "are others than those that they were bought with: 1" in refused.err
    assert (begun(), len(seedance_emulator.ledger)) == ([], 1)
    assert seedance("reroll", "1", "--replaced-files").code == 0
    assert seedance("reroll", "1").code == 0, "a take has it already"
    picture.write_bytes(PNG)
    assert seedance("reroll", "1").code == 0, "as it was"
    assert len(seedance_emulator.ledger) == 4


# --- shots of a film ------------------------------------------------------------------------------


def film():
    shots = [{"key": "one", "prompt": "one"}]
    for before, key in (("one", "two"), ("two", "three")):
        shots.append({"key": key, "prompt": key, "mediaUrls": [{"from": before}]})
    Path("film.jsonl").write_text("".join(json.dumps(each) + "\n" for each in shots))
    return "film.jsonl"


def sources(emulator):
    """For each job that was bought, its prompt and the job that it was made from."""
    jobs = {job.request_id: job.body["prompt"] for job in emulator.jobs.values()}
    order = list(jobs)
    for job in emulator.jobs.values():
        url = job.body.get("mediaUrls", [""])[0]
        source = next((each for each in order if each in url), None)
        yield jobs[job.request_id], None if source is None else order.index(source)


def test_a_reroll_of_a_shot_makes_again_what_depends_on_it(seedance, seedance_emulator):
    assert seedance("batch", film()).code == 0
    done = seedance("reroll", "2", "--prompt", "other")
    assert done.code == 0
    assert "Rerolling: take 2 of line 2, take 2 of line 3." in done.err
    assert list(sources(seedance_emulator))[3:] == [("other", 0), ("three", 3)]
    assert seedance("batch", film()).code == 0
    assert len(seedance_emulator.ledger) == 5
    assert set(outcomes()) == {(1, 1), (2, 1), (3, 1), (2, 2), (3, 2)}


def test_two_takes_of_a_film_are_two_films(seedance, seedance_emulator):
    assert seedance("batch", film()).code == 0
    assert seedance("batch", film(), "--takes", "2").code == 0
    assert list(sources(seedance_emulator)) == [
        ("one", None), ("two", 0), ("three", 1), ("one", None), ("two", 3), ("three", 4),
    ]  # fmt: skip


def test_a_take_of_a_film_is_not_taken_for_one_that_was_made_from_another(
    seedance, seedance_emulator
):
    assert seedance("batch", film()).code == 0
    for _ in range(2):
        assert seedance("reroll", "2", "--take", "2").code == 0
    done = seedance("reroll", "1", "--take", "2")
    assert done.code == 2
    assert "take 2 of line 2 was bought with another prompt, other options or from" in done.err
    assert len(seedance_emulator.ledger) == 5
    assert seedance("reroll", "1", "--take", "3").code == 0
    assert list(sources(seedance_emulator))[5:] == [("one", None), ("two", 5), ("three", 6)]


def test_no_take_is_bought_from_which_no_film_goes_on(seedance, seedance_emulator):
    assert seedance("batch", film()).code == 0
    assert seedance("reroll", "2").code == 0
    for more in ([], ["--dry-run"]):
        done = seedance("batch", film(), "--takes", "2", *more)
        assert done.code == 2
        assert "take 2 of line 2 was made from another take than take 2 of line 1" in done.err
    assert len(seedance_emulator.ledger) == 5
    assert seedance("reroll", "1").code == 0
    assert list(sources(seedance_emulator))[5:] == [("one", None), ("two", 5), ("three", 6)]
    assert seedance("batch", film(), "--takes", "2").code == 0, "nothing is missing"
    assert len(seedance_emulator.ledger) == 8


def test_a_take_in_doubt_is_submitted_again_with_what_it_was_made_from(seedance, seedance_emulator):
    assert seedance("batch", film()).code == 0
    seedance_emulator.faults.script("submit", "drop_after_accept", match="two")
    assert seedance("reroll", "1").code != 0
    assert seedance("batch", film(), "--resubmit-uncertain").code == 0
    assert list(sources(seedance_emulator))[3:] == [("one", None), ("two", 3), ("two", 3)]


def test_a_take_outlives_the_one_that_it_was_made_from(seedance, seedance_emulator):
    assert seedance("batch", film()).code == 0
    assert seedance("reroll", "1").code == 0
    assert seedance("journal", "forget", "--force", "--yes", "videos", "one.take2").code == 0
    assert seedance("batch", film()).code == 0
    assert len(seedance_emulator.ledger) == 6
    assert outcomes()[2, 2]["state"] == "succeeded"


# --- what cannot be rerolled ----------------------------------------------------------------------


#: What is wrong with the words, and what is said of it.
WRONG = [
    (["videos"], "name the lines of videos to reroll"),
    (["videos", "7"], "the batch of this folder has no line 7"),
    (["3-1"], "the range 3-1 is backwards"),
    (["videos", "x"], "'x' is no line: give numbers and ranges, such as 3 7-9"),
    (["nowhere", "1"], "nowhere has no lines.jsonl"),
    (["1", "--prompt", " "], "line 1: prompt: ' ' must not be blank"),
    (["1", "--duration", "99"], "line 1: duration: 99 must be"),
]


def test_what_cannot_be_rerolled_costs_nothing(seedance, three):
    for words, message in WRONG:
        done = seedance("reroll", *words)
        assert done.code == 2
        assert message in done.err
        assert begun() == []
    assert len(three.ledger) == 3


def test_a_record_that_cannot_be_read_buys_nothing(seedance, three):
    begin({1: f"{key_of(1)}.take2"})
    (record,) = begun()
    record.write_text("[")
    done = seedance("reroll", "1")
    assert done.code == 2
    assert f"{record} cannot be read" in done.err
    assert len(three.ledger) == 3


def test_a_reroll_that_was_planned_by_what_is_no_more_true_buys_nothing(
    seedance, three, monkeypatch
):
    """Another one came between reading the folder and opening its journal."""
    plan, plans = Rerolls.plan, []

    def twice(self, *args):
        plans.append(plan(self, *args))
        if len(plans) == 1:
            begin({1: f"{key_of(1)}.take2"}, prompt="other")
        return plans[-1]

    monkeypatch.setattr(Rerolls, "plan", twice)
    done = seedance("reroll", "1")
    assert done.code == 3
    assert "it has changed since it was read; try again" in done.err
    assert len(three.ledger) == 3
    assert entries(state="submitting") == []
