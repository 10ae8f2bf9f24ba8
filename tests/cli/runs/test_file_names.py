"""File names by a template: safe, and no two the same."""

import re
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from seedance_async import GenerationRequest
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.file_names import (
    FileNames,
    NameTemplate,
    chosen_names,
    safe_stem,
    slug,
)
from seedance_async.cli.runs.journal_entries import KnownJobs
from seedance_async.journal import JournalEntry
from tests.support.for_each import for_each

JOB = SimpleNamespace(request_id="req_7", key="auto-key", saved=None)


def line(number=1, prompt="A river, at Dawn!", columns=None, take=1, key=None, **fields):
    request = GenerationRequest(prompt, **fields)
    return Line(number, request, key, columns or {}, take=take)


def name(template, *arguments, **named):
    return FileNames(NameTemplate.parse(template))(line(*arguments, **named), JOB)


def check(template, *lines, entries=(), taken=()):
    known = KnownJobs(list(entries), None)
    chosen_names(NameTemplate.parse(template), lines, known, lambda name: name in taken)


def test_a_name_has_what_the_request_and_the_line_say():
    assert name("{line:03}-{slug}-{take}") == "001-a-river-at-dawn-1.mp4"
    assert name("{key}.{id}") == "auto-key.req_7.mp4"
    assert name("{key}", key="shot-1") == "shot-1.mp4"
    request = {"duration": 5, "resolution": "480p", "aspect_ratio": "9:16", "extra": {"seed": 4}}
    assert name("{model} {duration}s {resolution} {aspect_ratio} {seed:03}", **request) == (
        "seedance-2.0 5s 480p 9-16 004.mp4"
    )
    assert name("{Scene no}-{mood}", columns={"Scene no": "12", "mood": None}) == "12.mp4"
    assert name("{shot:03}", columns={"shot": "7"}) == "007.mp4", "cells of a table are text"
    media = {"media_urls": ["https://a.example/b/river.png?x=1"]}
    assert name("{media}-{mode}", **media) == "river-first_frame.mp4"
    assert name("{media}", media_urls=[Path("b/sea.png")]) == "sea.mp4"
    assert name("{{a}}.mp4") == "{a}.mp4"


@for_each(
    ("prompt", "safe"),
    [
        ("../../etc/passwd", "etc-passwd.mp4"),
        ("a/b\\c:d*e?", "a-b-c-d-e.mp4"),
        ("CON", "_CON.mp4"),
        ("nul.txt", "_nul.txt.mp4"),
        (".hidden", "hidden.mp4"),
        ("-rf", "rf.mp4"),
        ("a\x00b\nc\ud800d", "a-b-c-d.mp4"),
        ("e\u0301", "é.mp4"),
    ],
)
def test_a_name_is_safe_whatever_is_in_it(prompt, safe):
    assert name("{prompt}", prompt=prompt) == safe


@given(st.text(min_size=1))
@example("日本" * 100)
@example("a" * 119 + " b")
def test_any_text_makes_one_plain_component_or_none(text):
    try:
        found = name("{prompt}", prompt=text)
    except ValueError:
        return
    assert re.fullmatch(r'[^<>:"/\\|?*\x00-\x1f]+\.mp4', found)
    assert found[0] not in ".- "
    assert len(found.encode()) <= 125


def test_long_names_stay_different():
    first, second = (name("{prompt}", prompt="x" * 300 + end) for end in "ab")
    assert first != second
    with pytest.raises(ValueError, match="empty"):
        safe_stem(" .-")


def test_a_slug_has_whole_words():
    assert slug("The Café, by night -- it rains and it rains and rains") == (
        "the-café-by-night-it-rains-and-it-rains"
    )
    assert slug("x" * 90) == "x" * 40


@for_each(
    ("template", "words"),
    [
        ("{lin}", "did you mean {line}"),
        ("{weather}", "there are prompt, model"),
        ("a/{line}", "cannot be in a file name"),
        ("{line", "'{line'"),
        ("{}", "each field has a name"),
        ("{line!r}", "each field has a name"),
        ("{line:{take}}", "each field has a name"),
        ("{slug:d}", "{slug:d} does not fit"),
        ("{line:99999999999}", "a width or a precision is at most 255"),
        ("{line:256}", "a width or a precision is at most 255"),
        ("{line:.0" + "9" * 5000 + "f}", "a width or a precision is at most 255"),
        ("{line:\u0669\u0669\u0669}", "a width or a precision is at most 255"),
        ("{mode.name}", "nothing is called {mode.name}"),
        ("{resolution}", "the name would be empty"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(template, words):
    with pytest.raises(click.UsageError, match=re.escape(words)):
        check(template, line())


def test_a_number_that_is_no_character_is_refused():
    with pytest.raises(click.UsageError, match=re.escape("{large:c} does not fit")):
        check("{large:c}", line(columns={"large": "1" * 18}))


def test_the_widest_format_makes_a_name():
    assert name("{line:0255}").endswith(".mp4")


def test_two_lines_never_get_one_name():
    with pytest.raises(click.UsageError, match=r"line 1 and line 2 .* add \{line\}"):
        check("{slug}", line(1, "A River"), line(2, "a river!"))
    with pytest.raises(click.UsageError, match=r"line 1 and line 1, take 2 .* add \{take\}"):
        check("{line}", line(1), line(1, take=2))
    with pytest.raises(click.UsageError, match="line 1 and line 2"):
        check("{x}", line(1, columns={"x": "A"}), line(2, columns={"x": "a"}))
    check("{line}-{take}", line(1), line(1, take=2), line(2))
    check("{slug}-{id}", line(1), line(2))


def test_no_line_gets_the_name_of_another_video():
    river, sea = line(1, "A river", key="r"), line(1, "A sea", key="s")
    saved = JournalEntry("r", "f", "{}", state="succeeded", path="/videos/1.mp4", size=1)
    with pytest.raises(click.UsageError, match=r"line 1 would be '1\.mp4', and there is another"):
        check("{line}", sea, taken=["1.mp4"])
    with pytest.raises(click.UsageError, match="there is another"):
        check("{line}", sea, entries=[saved], taken=["1.mp4"])
    check("{line}", river, entries=[saved], taken=["1.mp4"])
    check("{line}", sea, entries=[saved], taken=[])


def test_a_video_that_was_saved_keeps_its_name():
    saved = JournalEntry("r.take2", "f", "{}", state="succeeded", path="s3://b/other.mp4", size=1)
    first, second = line(1, key="r"), line(1, key="r.take2", take=2)
    check("{line}", first, second, entries=[saved])
    with pytest.raises(click.UsageError, match=r"would both be 'other\.mp4'"):
        check("other", first, second, entries=[saved])
    job = SimpleNamespace(saved=SimpleNamespace(place="s3://b/other.mp4"))
    assert FileNames(NameTemplate.parse("{line}"))(second, job) == "other.mp4"


# --- the command ---------------------------------------------------------------------------------


def test_a_batch_names_its_videos(seedance, seedance_emulator):
    Path("shots.csv").write_text("prompt,scene\nA river,one\nA sea,two\n")
    command = ("batch", "shots.csv", "--takes", "2", "--name", "{line:02}-{scene}-{slug}-{take}")
    assert seedance(*command).code == 0
    names = {path.name for path in Path("videos").glob("*.mp4")}
    assert names == {
        "01-one-a-river-1.mp4",
        "01-one-a-river-2.mp4",
        "02-two-a-sea-1.mp4",
        "02-two-a-sea-2.mp4",
    }
    again = seedance(*command)
    assert again.code == 0
    assert len(seedance_emulator.jobs) == 4


def test_a_name_that_does_not_do_stops_a_batch_before_it_costs(seedance, seedance_emulator):
    Path("shots.txt").write_text("A river\nA river\n")
    for dry in ((), ("--dry-run",)):
        done = seedance("batch", "shots.txt", "--name", "{slug}", *dry)
        assert done.code == 2
        assert "line 1 and line 2 would both be 'a-river.mp4'" in done.err
    assert not seedance_emulator.jobs
