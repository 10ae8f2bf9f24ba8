"""Lines that are made from other lines: their order, their keys, and what is refused."""

import json

from hypothesis import given
from hypothesis import strategies as st

from seedance_async import GenerationRequest, JobMedium
from seedance_async.cli.chains import in_order, joined_key, named_by
from seedance_async.cli.inputs import Line, read_lines
from tests.support.for_each import for_each


def film(*shots):
    """Lines with these keys, each made from the last frames of those after it."""
    return [
        Line(
            number,
            GenerationRequest(f"{key}", media_urls=[JobMedium(each, "last") for each in sources]),
            key,
            where=f"line {number}",
        )
        for number, (key, *sources) in enumerate(shots, 1)
    ]


def ordered(lines):
    found, problems = in_order(lines)
    assert not problems
    return found


def raw(line):
    return line.key.partition("@")[0]


def test_lines_that_need_no_other_stay_as_they_are():
    lines = film(["b"], ["a"])
    assert in_order(lines) == (lines, [])


def test_each_line_comes_after_those_it_is_made_from_and_others_are_not_held_up():
    lines = film(["c", "b"], ["b", "a"], ["a"], ["x"], ["y", "x", "a"])
    assert [raw(line) for line in ordered(lines)] == ["a", "x", "b", "y", "c"]
    assert [line.number for line in ordered(lines)] == [3, 4, 2, 5, 1]


def test_a_key_says_what_a_line_is_made_from():
    first, second, third = ordered(film(["a"], ["b", "a"], ["c", "b"]))
    assert first.key == "a"
    assert second.key == joined_key("b", [JobMedium("a", "last")]) != "b"
    assert second.request.media_urls == (JobMedium("a", "last"),)
    assert third.request.media_urls == (JobMedium(second.key, "last"),)
    assert named_by([first, second, third]) == {"a", second.key}
    whole = GenerationRequest("b", media_urls=[JobMedium("a")])
    assert ordered([first, Line(2, whole, "b")])[1].key != second.key


def test_another_first_shot_is_another_film():
    before = ordered(film(["a"], ["x"], ["b", "a"], ["c", "b"], ["y", "x"]))
    after = ordered(film(["a2"], ["x"], ["b", "a2"], ["c", "b"], ["y", "x"]))
    kept = {line.key for line in before} & {line.key for line in after}
    assert {key.partition("@")[0] for key in kept} == {"x", "y"}


def test_a_line_without_a_key_is_known_by_what_it_is_made_from():
    lines = [*film(["a"]), Line(2, GenerationRequest("b", media_urls=[JobMedium("a")]))]
    assert ordered(lines)[1].key is None


@for_each(
    ("shots", "wrong"),
    [
        ([["a"], ["b", "shot"]], ["line 2: media_urls[0].from: 'shot' must be the key of another"]),
        ([["a"], ["b", "aa", "A1"]], ["line 2: media_urls[0].from: 'aa' must be the key of"]),
        ([["a", "a"]], ["line 1: media_urls: 'a' must not be made from itself: 'a' ← 'a'"]),
        (
            [["x"], ["d", "c"], ["a", "c"], ["b", "a"], ["c", "b", "x"]],
            ["line 3: media_urls: 'c' must not be made from itself: 'a' ← 'c' ← 'b' ← 'a'"],
        ),
        ([["a", "b"], ["b", "a"], ["c", "d"], ["d", "c"]], ["line 1: ", "line 3: "]),
    ],
)
def test_what_cannot_be_made_is_a_problem_of_its_line(shots, wrong):
    _, problems = in_order(film(*shots))
    assert len(problems) == len(wrong)
    for problem, words in zip(problems, wrong, strict=True):
        assert str(problem).startswith(words)


@given(st.lists(st.lists(st.integers(0, 7), max_size=3), min_size=1, max_size=8), st.randoms())
def test_every_file_is_put_in_order_or_has_a_problem(sources, random):
    shots = [[f"{n}", *{f"{each}" for each in made}] for n, made in enumerate(sources)]
    random.shuffle(shots)
    lines, problems = in_order(film(*shots))
    if problems:
        return
    assert sorted(raw(line) for line in lines) == sorted(shot[0] for shot in shots)
    assert len({line.key for line in lines}) == len(lines)
    before = set()
    for line in lines:
        assert named_by([line]) <= before
        before.add(line.key)


def test_a_long_chain_is_put_in_order_without_recursion():
    count = 5000
    shots = [["0"], *([f"{n}", f"{n - 1}"] for n in range(1, count))]
    assert [raw(line) for line in ordered(film(*reversed(shots)))] == [f"{n}" for n in range(count)]


def test_a_table_names_other_lines_in_json():
    cell = json.dumps({"from": "a", "frame": "last"}).replace('"', '""')
    data = f'key,prompt,media\na,x,\nb,y,"{cell} | https://example.com/a.png"\n'
    (_, line), problems = read_lines(
        data.encode(), None, name="a.csv", names={"media": "media_urls"}, uploads=True
    )
    assert problems == []
    assert line.request.media_urls == (JobMedium("a", "last"), "https://example.com/a.png")
    data = 'key,prompt,media_urls\nb,y,"{not json"\n'
    _, (problem,) = read_lines(data.encode(), None, name="a.csv", uploads=True)
    assert "must be a JSON object" in str(problem)
