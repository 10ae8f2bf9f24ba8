"""Media that are videos of other jobs: how they are written, and by what they are known."""

import copy
import json
import pickle

import pytest

from seedance_async import GenerationMode, GenerationRequest, JobMedium, dump_request, load_request
from seedance_async.api.prepared_request import fingerprint_of, prepare
from tests.support.for_each import for_each


@for_each("medium", [JobMedium("shot-3", "last"), JobMedium("shot-3")])
def test_a_request_keeps_them_through_json(medium):
    request = GenerationRequest("x", media_urls=[medium, "https://example.com/a.png"])
    data = json.loads(json.dumps(dump_request(request)))
    assert load_request(data) == request
    assert request.violations(uploads=True) == []
    assert prepare(request, uploads=True).data == data


def test_the_mode_is_that_of_a_picture_or_of_a_video():
    frame, video = JobMedium("a", "last"), JobMedium("a")
    assert GenerationRequest("x", media_urls=[frame]).mode is GenerationMode.FIRST_FRAME
    assert GenerationRequest("x", media_urls=[video]).mode is GenerationMode.MULTIMODAL


def test_the_fingerprint_is_that_of_the_job_and_of_how_much_is_taken_of_it():
    def known(medium):
        return fingerprint_of(dump_request(GenerationRequest("x", media_urls=[medium])))

    assert known(JobMedium("a", "last", job=object())) == known({"from": "a", "frame": "last"})
    others = [JobMedium("a"), JobMedium("b", "last"), "https://example.com/a"]
    assert len({known(JobMedium("a", "last")), *map(known, others)}) == 4


@for_each(
    "data",
    [{"from": ""}, {"from": 3}, {"from": "a", "frame": "first"}, {"frame": "last"}, {},
     {"from": "a", "at": 3}, {"from": ["a"]}],
)  # fmt: skip
def test_json_that_names_no_job_is_refused(data):
    (violation,) = GenerationRequest("x", media_urls=[data]).violations(uploads=True)
    assert violation.field == "media_urls[0]"
    assert violation.rule.startswith('must be {"from": KEY}')


def test_a_frame_needs_somebody_who_uploads_it_and_a_video_does_not():
    (violation,) = GenerationRequest("x", media_urls=[JobMedium("a", "last")]).violations()
    assert "give the session an uploader" in violation.rule
    assert GenerationRequest("x", media_urls=[JobMedium("a")]).violations() == []


@for_each("arguments", [("",), (3,), ("a", "first")])
def test_a_medium_that_cannot_be_is_refused_at_once(arguments):
    with pytest.raises(ValueError, match=r"key|frame"):
        JobMedium(*arguments)


def test_a_copy_keeps_the_job():
    request = GenerationRequest("x", media_urls=[JobMedium("a", "last", job=[])])
    for copied in (copy.copy(request), copy.deepcopy(request)):
        assert copied.media_urls[0].job is request.media_urls[0].job


def test_a_pickled_one_leaves_the_job_behind():
    copied = pickle.loads(pickle.dumps(JobMedium("a", "last", job=object())))
    assert copied == JobMedium("a", "last")
    assert copied.job is None
