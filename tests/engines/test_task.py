"""Tasks and outcomes as plain JSON, and the names of files."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seedance_async import GenerationRequest
from seedance_async.api.job_media import JobMedium
from seedance_async.engines.task import Outcome, Task, file_name

REQUEST = GenerationRequest(
    "A river", media_urls=["https://example.com/a.png"], duration=5, metadata={"b": 1, "a": [2]}
)


@pytest.mark.parametrize("task", [Task("k", REQUEST), Task("k", REQUEST, "a.mp4", "acme")])
def test_a_task_comes_back_as_it_was(task):
    assert Task.load(task.dump()) == task


def test_a_task_that_a_newer_version_wrote_is_no_task():
    with pytest.raises(ValueError, match="colour"):
        Task.load({**Task("k", REQUEST).dump(), "colour": "red"})


@pytest.mark.parametrize("data", [{}, {"key": "k"}, {"key": "k", "request": {"prompts": 1}}])
def test_what_is_no_task_is_refused(data):
    with pytest.raises(ValueError, match=r"JSON object|no field|prompt"):
        Task.load(data)


def test_a_request_that_needs_this_machine_is_refused():
    with pytest.raises(ValueError, match="another machine"):
        Task("k", GenerationRequest("A river", media_urls=[JobMedium("j", "last", None)])).dump()


@pytest.mark.parametrize(
    "outcome",
    [Outcome("k", "rejected"), Outcome("k", "succeeded", "req_1", 40, "a.mp4", "00", "é", True)],
)
def test_an_outcome_comes_back_as_it_was(outcome):
    assert Outcome.load(outcome.dump()) == outcome


def test_an_outcome_of_a_newer_version_is_read_as_far_as_it_is_known():
    text = Outcome("k", "succeeded").dump().replace("{", '{"colour": "red", ', 1)
    assert Outcome.load(text) == Outcome("k", "succeeded")


@pytest.mark.parametrize("text", ["[]", "{}", '"a"'])
def test_what_is_no_outcome_is_refused(text):
    with pytest.raises(ValueError, match="no outcome"):
        Outcome.load(text)


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_two_keys_share_a_file_even_where_case_makes_no_difference(one, other):
    names = {file_name(one).lower(), file_name(other).lower()}
    assert len(names) == len({one, other})
    assert all(name.isascii() and len(name) < 130 and "/" not in name for name in names)


def test_the_name_of_a_file_is_that_of_a_plain_key():
    assert file_name("river-1") == "river-1.mp4"
    assert file_name("River 1").startswith("river-1.")
    assert not file_name("..").startswith(".")


def test_a_task_may_name_its_file():
    assert attrs.evolve(Task("k", REQUEST), file="b/c.mp4").file_name == "b/c.mp4"


@pytest.mark.parametrize(
    "file", ["", "/etc/passwd", "../a.mp4", "a/../../b.mp4", "a\\..\\b", "c:a.mp4", "a//b", "a\0b"]
)
def test_a_file_outside_of_the_place_for_videos_is_refused(file):
    with pytest.raises(ValueError, match="inside a folder"):
        Task("k", REQUEST, file=file)
    with pytest.raises(ValueError, match="inside a folder"):
        Task.load({**Task("k", REQUEST).dump(), "file": file})
