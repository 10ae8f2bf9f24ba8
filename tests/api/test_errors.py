"""The error tree: as drawn, picklable, and without the key."""

import asyncio
import copy
import inspect
import pickle
import re
from pathlib import Path

import pytest

from seedance_async import (
    APIError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    DownloadError,
    Generation,
    GenerationCancelledError,
    GenerationFailedError,
    GenerationRequest,
    GenerationStatus,
    InvalidRequestError,
    Job,
    JobError,
    JobTimeoutError,
    JournalError,
    MediaUploadError,
    ResponseFormatError,
    SeedanceError,
    ServerError,
    SourceJobError,
    SubmitUncertainError,
    TooManyAbandonedError,
    TooManyUncertainError,
    TransportError,
    UnreachableError,
    Violation,
)
from seedance_async.api import errors
from seedance_async.api.models import ErrorDetail
from seedance_async.api.prepared_request import load_request, prepare
from seedance_async.jobs.registry import JobRecord
from seedance_async.jobs.state import JobState
from tests.support.for_each import for_each

# --- the drawing --------------------------------------------------------------------------------

_ENTRY = re.compile(r"[├└]── (\w+)(?:\((\w+)\))?([ 0-9x,]*)")


def drawn_tree():
    """{class name: (parent, further base, statuses)} as the module's docstring draws it."""
    tree, parents = {"SeedanceError": (None, None, "")}, {0: "SeedanceError"}
    for line in errors.__doc__.splitlines():
        for match in _ENTRY.finditer(line):
            indent = len(line) - len(line.lstrip(" │├└─"))
            depth = line[:indent].count("│") + line[:indent].count("├") + line[:indent].count("└")
            name, base, statuses = match.groups()
            tree[name] = (parents[depth - 1], base, statuses.strip())
            parents[depth] = name
    return tree


def real_tree():
    """The same of the classes themselves, without statuses."""
    tree = {}
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, SeedanceError):
            ours = [base for base in kind.__bases__ if issubclass(base, SeedanceError)]
            others = [base for base in kind.__bases__ if base not in ours and base is not Exception]
            tree[name] = (
                ours[0].__name__ if ours else None,
                others[0].__name__ if others else None,
            )
            assert len(ours) + len(others) <= 2
    return tree


def test_the_tree_is_the_one_that_the_docstring_draws():
    drawn = {name: (parent, base) for name, (parent, base, _) in drawn_tree().items()}
    assert drawn == real_tree()
    assert len(drawn) > 15


def test_the_drawn_statuses_are_those_that_make_the_class():
    for name, (_, _, statuses) in drawn_tree().items():
        for status in re.findall(r"\d+", statuses.replace("5xx", "500 503 599")):
            made = APIError.from_status(int(status), "words", code=None, retry_after=None)
            assert type(made).__name__ == name


@for_each(
    ("status", "kind"), [(418, APIError), (413, APIError), (500, ServerError), (999, ServerError)]
)
def test_a_status_without_a_class_of_its_own_is_a_plain_api_or_server_error(status, kind):
    assert type(APIError.from_status(status, "words", code=None, retry_after=None)) is kind


# --- one of each --------------------------------------------------------------------------------

REQUEST = GenerationRequest("a river", metadata={"a": 1})
FAILED = Generation("req_1", GenerationStatus.FAILED, error=ErrorDetail("moderated", "x"))


def a_job(state=JobState.FAILED, error=None):
    return Job(JobRecord("key", REQUEST, state, "req_1", 40, FAILED, error), None)


SAMPLES = [
    SeedanceError("words"),
    ConfigurationError("words"),
    InvalidRequestError([Violation("duration", 3, "must be 5"), Violation("prompt", "", "must")]),
    *(
        APIError.from_status(status, "words", code="c", retry_after=2.5)
        for status in (400, 401, 402, 404, 409, 418, 422, 429, 503)
    ),
    TransportError("words", delivered="no", transient=False),
    UnreachableError("words", base_url="https://api.example"),
    ResponseFormatError("words", status=200, snippet="<html>"),
    SubmitUncertainError("words", request=REQUEST, key="key", request_id="req_1"),
    TooManyAbandonedError(10),
    TooManyUncertainError(10),
    MediaUploadError("river.jpg", "words"),
    SourceJobError("the last frame of job 3", "3", "words"),
    JobError("words", job=a_job()),
    GenerationFailedError("words", job=a_job()),
    GenerationCancelledError("words", job=a_job(JobState.CANCELLED)),
    JobTimeoutError("words", job=a_job(JobState.ABANDONED, TransportError("x", delivered="no"))),
    BudgetExceededError(max_credits=100, spent=90, needed=32, known=True),
    BudgetExceededError(max_credits=100, spent=0, needed=1, known=False, unpriced=2),
    DownloadError("words", request_id="req_1", path=Path("a.mp4"), status=403),
    JournalError("words", path="runs.db", request_id="req_1"),
]


def test_there_is_a_sample_of_every_class():
    assert {type(error).__name__ for error in SAMPLES} == set(real_tree())


def attributes(error):
    """An error's data; of a job, what can be read of it."""
    data = dict(vars(error))
    job = data.pop("job", None)
    if job is not None:
        read = ("key", "request", "request_id", "state", "generation", "credits_charged", "token")
        data["job"] = {name: getattr(job, name) for name in read}
    return data


DUPLICATES = [copy.copy, copy.deepcopy] + [
    lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
]


@for_each("error", SAMPLES)
def test_an_error_pickles_and_copies_with_all_its_attributes(error):
    for duplicate in DUPLICATES:
        other = duplicate(error)
        assert other is not error
        assert type(other) is type(error)
        assert (str(other), other.args) == (str(error), error.args)
        assert attributes(other) == attributes(error)


def test_notes_go_along_in_a_pickle():
    error = TransportError("words", delivered="no")
    error.add_note("row 7 of the file")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["row 7 of the file"]


def test_a_subclass_of_the_users_own_pickles_too():
    error = OwnError("words", job=a_job())
    assert pickle.loads(pickle.dumps(error)).request_id == "req_1"


class OwnError(JobError):
    """A user's."""


async def test_the_job_of_an_unpickled_error_can_be_read_but_not_acted_on():
    error = pickle.loads(pickle.dumps(JobTimeoutError("words", job=a_job(JobState.QUEUED))))
    assert error.job.request_id == error.request_id == "req_1"
    assert error.job.request == REQUEST
    assert error.generation == FAILED
    assert '"req_1"' in error.job.token
    for act in (error.job.wait, error.job.cancel):
        with pytest.raises(RuntimeError, match="attach"):
            await act()


def test_an_error_says_something():
    for error in SAMPLES:
        assert any(word in str(error) for word in ("words", "must", "credits", "charged")), error


# --- mixins -------------------------------------------------------------------------------------


def test_what_the_caller_did_wrong_is_a_value_error_too():
    kinds = {type(e).__name__ for e in SAMPLES if isinstance(e, ValueError)}
    assert kinds == {"ConfigurationError", "InvalidRequestError"}


def test_a_passed_deadline_is_a_timeout_error_too_and_nothing_else_is():
    kinds = {type(e).__name__ for e in SAMPLES if isinstance(e, TimeoutError)}
    assert kinds == {"JobTimeoutError"}
    assert asyncio.TimeoutError is TimeoutError


# --- what the messages say ----------------------------------------------------------------------


def test_an_invalid_request_reports_the_first_rule_as_attributes_and_all_in_words():
    error = SAMPLES[2]
    assert (error.field, error.value, error.rule) == ("duration", 3, "must be 5")
    assert str(error) == "duration must be 5, not 3; prompt must, not ''"
    assert len(error.violations) == 2


def test_a_rule_that_does_not_say_must_is_not_ended_with_not_none():
    with pytest.raises(InvalidRequestError) as caught:
        load_request({"propmt": "a river"})
    told = str(caught.value)
    assert told.startswith("propmt is not one of prompt, model")
    assert told.endswith("; did you mean prompt?; prompt is required")
    with pytest.raises(InvalidRequestError) as caught:
        load_request({"prompt": "a river", "seed": 7})
    assert str(caught.value).endswith("what the server takes besides goes into extra")


@for_each(
    ("fields", "message"),
    [
        ({"prompt": ""}, "prompt must not be blank (it is '')"),
        ({"duration": 30}, "duration must be 4 to 15 seconds for seedance-2.0, not 30"),
        (
            {"media_urls": ["https://10.0.0.1/x"]},
            "media_urls[0] must be public, not a loopback, private or link-local host "
            "(it is 'https://10.0.0.1/x')",
        ),
        (
            {"extra": {"Prompt": 1}},
            "extra.Prompt must not have the name of a documented field: give prompt (it is 1)",
        ),
        (
            {"metadata": {"a": 1, "b": {2}}},
            "metadata must be a JSON object of dicts, lists, text and finite numbers, with text "
            "keys, 64 levels and 100,000 values at most; 'b' is none of these "
            "(it is {'a': 1, 'b': {2}})",
        ),
    ],
)
def test_a_message_names_the_field_the_rule_and_the_value(fields, message):
    with pytest.raises(InvalidRequestError) as caught:
        prepare(GenerationRequest(**{"prompt": "a river", **fields}))
    assert str(caught.value) == message


def test_a_long_value_is_reported_in_short_and_kept_in_full():
    error = InvalidRequestError([Violation("prompt", "x" * 10_000, "must be shorter")])
    assert len(str(error)) < 200
    assert len(error.value) == 10_000


class Rogue:
    def __repr__(self):
        raise RuntimeError("no")


def deep():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


@for_each("make", [Rogue, deep, lambda: 10**5000])
def test_a_value_that_cannot_be_shown_is_refused_all_the_same(make):
    error = InvalidRequestError([Violation("prompt", make(), "must be text")])
    assert re.fullmatch(r"prompt must be text, not a \w+ that cannot be shown", str(error))


def test_an_uncertain_submit_says_that_it_may_be_charged_and_is_not_repeated():
    error = SubmitUncertainError("the answer was cut", request=REQUEST)
    told = "'a river' may have been accepted and charged, and is not repeated: the answer was cut"
    assert told in str(error)
    assert (error.key, error.request_id, error.reason) == (None, None, "the answer was cut")


def test_a_job_error_begins_with_the_jobs_id_or_else_its_key():
    assert str(JobError("words", job=a_job())) == "job req_1: words"
    unsent = Job(JobRecord("key", REQUEST), None)
    error = JobError("words", job=unsent)
    assert str(error) == "job key: words"
    assert error.request_id is None


def test_an_api_error_shows_status_code_and_the_servers_words():
    error = BadRequestError(422, "no such model", code="bad_model")
    assert str(error) == "HTTP 422 bad_model: no such model"
    assert str(APIError(418, "words")) == "HTTP 418: words"


def test_a_failed_download_names_the_job_and_the_path():
    told = "the video of job req_1 was not saved to a.mp4: words"
    assert str(DownloadError("words", request_id="req_1", path=Path("a.mp4"))) == told


def test_an_answer_in_a_wrong_format_may_have_been_delivered():
    error = ResponseFormatError("words", status=200)
    assert (error.delivered, error.transient, error.snippet) == ("maybe", True, "")
