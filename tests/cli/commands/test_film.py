"""A film of shots in a file, each beginning where another one ends, against a real emulator."""

import json
from pathlib import Path

import av
import pytest

from seedance_async.cli.runs.shots import ShotFolder
from seedance_async.emulator import Fault
from seedance_async.media.joining import join_clips
from tests.cli.conftest import entries, results

SHOTS = 4

pytestmark = pytest.mark.seedance_emulator(speed=10_000, media="shared")


def shot(number, source=None, **more):
    media = {} if source is None else {"mediaUrls": [{"from": source, "frame": "last"}]}
    return {"key": f"shot-{number}", "prompt": f"shot {number}", "duration": 4} | media | more


def write(*shots, name="film.jsonl"):
    Path(name).write_text("".join(json.dumps(each) + "\n" for each in shots))
    return name


def film(**first):
    return [shot(1, **first), *(shot(n, f"shot-{n - 1}") for n in range(2, SHOTS + 1))]


def bought(emulator):
    """The prompts that were paid for, in order, with how their media end."""
    return [
        (entry.body["prompt"], entry.body.get("mediaUrls", [""])[0][-4:])
        for entry in emulator.ledger
    ]


def test_a_film_is_a_file_and_is_bought_once(seedance, seedance_emulator):
    backwards = write(*reversed(film()))
    assert "4 jobs would be submitted" in seedance("batch", backwards, "--dry-run").out
    assert seedance("batch", backwards, "--max-in-flight", "2", "--events", "e.ndjson").code == 0
    assert bought(seedance_emulator) == [
        ("shot 1", ""), *((f"shot {n}", ".png") for n in range(2, SHOTS + 1))
    ]  # fmt: skip
    assert {line: each["prompt"] for line, each in results().items()} == {
        n: f"shot {SHOTS + 1 - n}" for n in range(1, SHOTS + 1)
    }
    again = seedance("batch", write(*film()))
    assert again.code == 0
    assert len(seedance_emulator.ledger) == SHOTS
    shots = ShotFolder.of(Path("videos")).read()
    made_from = {n: [{"from": results()[n - 1]["key"], "frame": "last"}] for n in (2, 3, 4)}
    assert {each.line: each.request.get("mediaUrls") for each in shots} == {1: None} | made_from
    told = [json.loads(line) for line in Path("e.ndjson").read_text().splitlines()]
    asked = [each["request"].get("mediaUrls") for each in told if each["event"] == "JobSubmitted"]
    assert asked == [None, *made_from.values()]
    videos = [Path(results()[number]["file"]) for number in range(1, SHOTS + 1)]
    join_clips(videos, Path("film.mp4"))
    with av.open("film.mp4") as joined:
        assert sum(1 for _ in joined.decode(video=0)) == SHOTS * 4 * 24


def test_another_take_of_a_shot_buys_it_and_what_depends_on_it(seedance, seedance_emulator):
    beside = [shot(8), shot(9, "shot-8")]
    assert seedance("batch", write(*film(), *beside)).code == 0
    first, *rest = film()
    second = shot(2, "shot-1") | {"key": "shot-2b"}
    third = shot(3, "shot-2b")
    assert seedance("batch", write(first, second, third, rest[-1], *beside)).code == 0
    assert [prompt for prompt, _ in bought(seedance_emulator)[6:]] == ["shot 2", "shot 3", "shot 4"]
    assert len(entries(state="succeeded")) == 9


def test_nothing_is_bought_after_a_shot_that_failed_until_it_is_made(seedance, seedance_emulator):
    seedance_emulator.faults.script("job", "failed", match="shot 2", times=1)
    done = seedance("batch", write(*film(), shot(9)))
    assert done.code == 1
    assert {prompt for prompt, _ in bought(seedance_emulator)} == {"shot 1", "shot 2", "shot 9"}
    assert [results()[n]["state"] for n in (2, 3, 4)] == ["failed", "rejected", "rejected"]
    assert results()[3]["error"]["type"] == "SourceJobError"
    assert "the last frame of job shot-2@" in results()[3]["error"]["message"]
    assert results()[3]["credits_charged"] is None
    step = "What to do: see to line 2 first: moderation: change the prompt"
    assert done.err.count(step) == 2, "for line 3, and for line 4, which waited for it"
    first, second, third, fourth = film()
    second |= {"key": "shot-2b"}
    third |= {"mediaUrls": [{"from": "shot-2b", "frame": "last"}]}
    assert seedance("batch", write(first, second, third, fourth, shot(9))).code == 0
    assert [prompt for prompt, _ in bought(seedance_emulator)[3:]] == ["shot 2", "shot 3", "shot 4"]


def test_the_command_that_is_told_makes_the_rest_of_a_film(seedance, seedance_emulator):
    dull = Fault("failed", code="internal", message="Too dull")
    seedance_emulator.faults.script("job", dull, match="shot 2", times=1)
    for _ in range(2):  # the second one has it from the journal
        done = seedance("batch", write(*film()))
        assert done.code == 1
        step = "to buy line 2 again, and what is made from it: seedance reroll videos 2\n"
        assert done.err.count(step) == 2
    assert seedance("reroll", "videos", "2").code == 0
    assert [prompt for prompt, _ in bought(seedance_emulator)[2:]] == ["shot 2", "shot 3", "shot 4"]


def test_a_line_whose_source_was_refused_is_told_what_to_do_about_that(seedance, seedance_emulator):
    seedance_emulator.faults.script("submit", Fault("error", message="an unsafe prompt"))
    done = seedance("batch", write(*film()[:2]))
    assert "What to do: see to line 1 first: moderation: change the prompt" in done.err


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([shot(1), shot(2, "shot-7")], "line 2: media_urls[0].from: 'shot-7' must be the key"),
        ([shot(1, "shot-2"), shot(2, "shot-1")], "line 1: media_urls: 'shot-2' must not be made"),
        ([shot(1), shot(2, "shot-1", mediaUrls=[{"from": 1}])], "line 2: media_urls[0]: {'from'"),
    ],
)
def test_a_film_that_cannot_be_made_is_refused_before_it_costs(
    seedance, seedance_emulator, lines, words
):
    done = seedance("batch", write(*lines))
    assert done.code == 2
    assert words in done.err
    assert "nothing was sent" in done.err
    assert len(seedance_emulator.ledger) == 0


def test_a_film_needs_a_bucket_for_its_pictures(seedance, monkeypatch):
    monkeypatch.setenv("SEEDANCE_BASE_URL", "https://api.example")
    monkeypatch.setenv("SEEDANCE_API_KEY", "key")
    done = seedance("batch", write(*film()), "--dry-run")
    assert done.code == 2
    assert "line 2: media_urls[0]: 'the last frame of job shot-1' is uploaded as a" in done.err
    assert done.err.count("give --upload a bucket") == 1


def test_a_film_needs_the_journal(seedance, seedance_emulator):
    done = seedance("batch", write(*film()), "--no-journal")
    assert done.code == 2
    assert "leave --no-journal away" in done.err
    assert len(seedance_emulator.ledger) == 0


def test_a_film_that_was_left_is_resumed_without_its_file(seedance, seedance_emulator):
    assert seedance("batch", write(*film())).code == 0
    for video in Path("videos").glob("*.mp4"):
        video.unlink()
    assert seedance("resume", "videos").code == 0
    assert len(list(Path("videos").glob("*.mp4"))) == SHOTS
    assert len(seedance_emulator.ledger) == SHOTS


def test_what_a_limit_leaves_of_a_film_is_not_submitted(seedance, seedance_emulator):
    done = seedance("batch", write(*film()), "--max-credits", "70")
    assert done.code == 4
    states = [results()[number]["state"] for number in range(1, SHOTS + 1)]
    assert states == ["succeeded", "succeeded", "not_submitted", "not_submitted"]
    assert seedance("batch", write(*film()), "--max-credits", "200").code == 0
    assert len(seedance_emulator.ledger) == SHOTS
