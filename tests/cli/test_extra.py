"""Extra fields and new limits from the command line: what is sent, and what is refused first."""

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_async import GenerationRequest
from seedance_async.cli.extra_option import changed, json_or_text, option_words
from seedance_async.cli.inputs import read_lines
from seedance_async.cli.reading.formats import InputFormat
from seedance_async.emulator import Fault
from tests.support.for_each import for_each

CARD = {
    "id": "seedance-2.0",
    "durations": [5, 30],
    "aspectRatios": ["16:9", "4:3"],
    "resolutions": ["480p", "4k"],
    "extra": ["seed", "style", "camera"],
}
tomorrow = pytest.mark.seedance_emulator(models=[CARD], speed=2000)
today = pytest.mark.seedance_emulator(speed=2000)


def read(text, form="jsonl", **options):
    return read_lines(text.encode(), InputFormat(form), **options)


def extras(text, form="jsonl", **options):
    lines, problems = read(text, form, **options)
    assert problems == []
    return [line.request.extra for line in lines]


def problem(text, form="jsonl", **options):
    lines, (found,) = read(text, form, **options)
    assert lines == []
    return str(found)


def bought(emulator):
    return [entry.body for entry in emulator.ledger.charged]


# --- in a file ----------------------------------------------------------------------------------


def test_a_line_of_json_gives_extra_fields_as_an_object_or_by_name():
    text = '{"prompt": "a", "extra": {"seed": 7}, "extra.style": "noir", "Extra.camera": {"x": 1}}'
    assert extras(text) == [{"seed": 7, "style": "noir", "camera": {"x": 1}}]


def test_the_cells_of_a_table_are_json_or_text_and_empty_ones_are_absent():
    text = 'prompt,extra.seed,extra.style,note\na,7,noir,mine\nb,,"{""x"": true}",\nc,007,,\n'
    assert extras(text, "csv") == [
        {"seed": 7, "style": "noir"},
        {"style": {"x": True}},
        {"seed": "007"},
    ]


def test_a_column_of_another_name_can_be_mapped_to_an_extra_field():
    assert extras("prompt,Seed\na,7\n", "csv", names={"Seed": "extra.seed"}) == [{"seed": 7}]


def test_a_column_that_is_not_named_as_an_extra_field_is_the_users_own():
    (line,), problems = read("prompt,seed\na,7\n", "csv")
    assert (line.request.extra, line.columns, problems) == (None, {"seed": "7"}, [])


def test_a_line_keeps_its_own_value_of_what_an_option_gives_too():
    text = '{"prompt": "a"}\n{"prompt": "b", "extra": {"seed": 8}}\n{"prompt": "c", "extra": null}'
    defaults = {"extra": {"seed": 7, "style": "noir"}}
    usual = {"seed": 7, "style": "noir"}
    assert extras(text, defaults=defaults) == [usual, {"seed": 8, "style": "noir"}, None]


@for_each(
    ("text", "form", "words"),
    [
        ('{"prompt": "a", "extra": {"seed": 7}, "extra.seed": 7}', "jsonl", "extra.seed"),
        ('{"prompt": "a", "extra.seed": 7, "EXTRA.seed": 7}', "jsonl", "given twice as extra.seed"),
        ('{"prompt": "a", "extra": [7]}', "jsonl", "extra: [7] must be a JSON object"),
        ('{"prompt": "a", "extra.Duration": 7}', "jsonl", "extra.Duration: 7 must not have the na"),
        ('{"prompt": "a", "extra.x": NaN}', "jsonl", "extra.x: nan must be JSON"),
        (
            'prompt,extra.camera\na,"{""pan"": 1"\n',
            "csv",
            "extra.camera: '{\"pan\": 1' is not JSON",
        ),
        ('prompt,extra.x\na,"{""b"": 1, ""b"": 2}"\n', "csv", "'b' is given twice"),
        ("prompt,extra.x\na,NaN\n", "csv", "extra.x: nan must be JSON"),
    ],
)
def test_an_extra_field_that_cannot_be_sent_is_a_problem_of_its_line(text, form, words):
    assert words in problem(text, form)


# --- as an option -------------------------------------------------------------------------------

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(st.dictionaries(st.text("abcXYZ_", min_size=1), plain, max_size=3))
def test_the_words_that_resume_a_command_give_the_same_extra_fields(extra):
    words = shlex.split(shlex.join(list(option_words("extra", extra))))
    given_again = dict(word.split("=", 1) for word in words[1::2])
    assert words[::2] == ["--extra"] * len(extra)
    assert {name: json_or_text(text) for name, text in given_again.items()} == extra


def test_a_change_of_one_extra_field_leaves_the_others():
    request = GenerationRequest("a", extra={"seed": 7, "style": "noir"})
    assert changed(request, {"extra": {"seed": 8}}).extra == {"seed": 8, "style": "noir"}
    assert changed(GenerationRequest("a"), {"extra": {"seed": 8}}).extra == {"seed": 8}
    assert changed(request, {"prompt": "b"}).extra == request.extra


@for_each(
    ("given_", "words"),
    [
        (["seed"], "not of the form NAME=VALUE"),
        (["=7"], "not of the form NAME=VALUE"),
        (["seed=7", "seed=8"], "'seed' is given twice"),
        (['camera={"pan": 1'], "the value of 'camera' is not JSON"),
    ],
)
@for_each("command", ["generate", "batch"])
def test_an_option_that_cannot_be_read_is_a_mistake_in_the_command(
    seedance, command, given_, words
):
    Path("a.txt").write_text("a river\n")
    args = [part for text in given_ for part in ("--extra", text)]
    done = seedance(command, "a.txt", *args)
    assert done.code == 2
    assert words in done.err


def test_a_refused_name_is_told_with_its_value_and_rule(seedance, monkeypatch):
    monkeypatch.setenv("SEEDANCE_API_KEY", "sd2_live_unused")
    done = seedance("generate", "a river", "--extra", "Duration=5")
    assert done.code == 2
    words = "extra.Duration must not have the name of a documented field: give duration (it is 5)"
    assert words in done.err


# --- bought -------------------------------------------------------------------------------------


@tomorrow
def test_a_video_is_made_with_fields_and_limits_that_only_the_server_knows(
    seedance, seedance_emulator
):
    done = seedance(
        "generate", "a river", "--yes", "--duration", "30", "--aspect-ratio", "4:3",
        "--extra", "seed=7", "--extra", "style=noir", "--extra", 'camera={"pan": [1]}',
    )  # fmt: skip
    assert done.code == 0, done.err
    (body,) = bought(seedance_emulator)
    assert body == {
        "model": "seedance-2.0", "prompt": "a river", "duration": 30, "aspectRatio": "4:3",
        "seed": 7, "style": "noir", "camera": {"pan": [1]},
    }  # fmt: skip


@tomorrow
def test_a_batch_is_checked_by_the_servers_list_and_bought_once(seedance, seedance_emulator):
    Path("shots.csv").write_text("prompt,extra.seed,resolution\na,1,4k\nb,2,480p\nc,,\n")
    for _ in range(2):
        done = seedance("batch", "shots.csv", "--yes", "--extra", "style=noir", "--duration", "30")
        assert done.code == 0, done.err
    bodies = {body["prompt"]: body for body in bought(seedance_emulator)}
    assert len(bodies) == len(seedance_emulator.ledger) == 3
    assert [bodies[name].get("seed") for name in "abc"] == [1, 2, None]
    assert {body["style"] for body in bodies.values()} == {"noir"}


@tomorrow
def test_a_batch_that_the_servers_list_refuses_is_not_begun_and_says_how_to_ask_the_server(
    seedance, seedance_emulator
):
    Path("shots.csv").write_text("prompt,aspect_ratio\na,4:3\nb,2:1\n")
    done = seedance("batch", "shots.csv", "--yes")
    assert done.code == 2
    assert "line 2" in done.err
    assert "'2:1' must be one of 16:9, 4:3, by the server's list of models" in done.err
    assert "line 1" not in done.err
    assert "--no-strict" in done.err
    assert not len(seedance_emulator.ledger)


@today
def test_without_strict_the_server_is_asked_about_each(seedance, seedance_emulator):
    Path("shots.csv").write_text("prompt,aspect_ratio\na,16:9\nb,2:1\n")
    assert seedance("batch", "shots.csv", "--yes").code == 2
    assert seedance("generate", "a", "--yes", "--duration", "30").code == 2
    assert not len(seedance_emulator.ledger)
    assert seedance("generate", "a", "--yes", "--duration", "30", "--no-strict").code == 1
    assert seedance("batch", "shots.csv", "--yes", "--no-strict").code == 1
    assert [entry.outcome for entry in seedance_emulator.ledger].count("invalid") == 2
    assert [body["prompt"] for body in bought(seedance_emulator)] == ["a"]


@pytest.mark.seedance_emulator(models=[CARD], submit_faults={"unauthorized": 1.0})
def test_a_line_that_is_left_for_the_next_run_keeps_its_extra_fields(seedance, seedance_emulator):
    Path("shots.jsonl").write_text('{"prompt": "a", "extra": {"seed": 7}}\n')
    assert seedance("batch", "shots.jsonl", "--yes", "--no-journal").code == 4
    (kept,) = Path("videos/remaining.jsonl").read_text().splitlines()
    assert json.loads(kept)["extra"] == {"seed": 7}
    assert extras(kept) == [{"seed": 7}]


@tomorrow
def test_a_reroll_changes_one_extra_field_and_resumes_with_the_same_words(
    seedance, seedance_emulator
):
    Path("shots.jsonl").write_text('{"prompt": "a", "extra": {"seed": 7, "style": "noir"}}\n')
    assert seedance("batch", "shots.jsonl", "--yes").code == 0
    done = seedance("reroll", "1", "--yes", "--extra", "seed=8", "--duration", "30")
    assert done.code == 0, done.err
    first, second = bought(seedance_emulator)
    assert second == {**first, "seed": 8, "duration": 30}


@pytest.mark.seedance_emulator(models=[CARD], models_faults={Fault("error", status=400): 1.0})
def test_the_same_command_takes_up_what_it_bought_though_the_list_no_longer_has_it(
    seedance, seedance_emulator
):
    Path("shots.csv").write_text("prompt,aspect_ratio\na,4:3\nb,16:9\n")
    assert seedance("batch", "shots.csv", "--no-strict", "--yes").code == 0
    Path("videos/results.jsonl").unlink()
    done = seedance("batch", "shots.csv", "--yes")
    assert done.code == 0, done.err
    assert len(seedance_emulator.ledger) == 2
    Path("shots.csv").write_text("prompt,aspect_ratio\na,4:3\nb,16:9\nc,4:3\n")
    done = seedance("batch", "shots.csv", "--yes")
    assert done.code == 2
    assert "The server's list of models could not be read: the documented limits" in done.err
    assert "line 3" in done.err
    assert "line 1" not in done.err


@pytest.mark.seedance_emulator(models=[CARD], models_faults={Fault("error", status=400): 1.0})
def test_a_take_that_was_bought_is_not_refused_though_the_list_no_longer_has_it(
    seedance, seedance_emulator
):
    Path("shots.csv").write_text("prompt\na\n")
    assert seedance("batch", "shots.csv", "--yes").code == 0
    words = ("reroll", "1", "--take", "2", "--aspect-ratio", "4:3", "--yes")
    assert seedance(*words).code == 2
    assert seedance(*words, "--no-strict").code == 0
    done = seedance(*words)
    assert done.code == 0, done.err
    assert len(seedance_emulator.ledger) == 2
