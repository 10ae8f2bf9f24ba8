"""Everything this SDK raises on purpose.

    SeedanceError
    ├── ConfigurationError(ValueError)      no key, a bad base URL, an option out of bounds
    ├── InvalidRequestError(ValueError)     refused before sending: field, value, rule
    ├── APIError                            the server answered with an error
    │   ├── BadRequestError 400, 422   ├── AuthenticationError 401, 403
    │   ├── InsufficientCreditsError 402
    │   ├── NotFoundError 404          ├── ConflictError 409
    │   ├── RateLimitError 429         └── ServerError 5xx
    ├── TransportError                      no usable answer: `delivered` is "no" or "maybe"
    │   ├── UnreachableError                the API's host was never reached
    │   └── ResponseFormatError             an answer that is not the API's
    ├── SubmitUncertainError                the POST may have been charged
    ├── MediaUploadError                    a file on this machine could not be uploaded
    ├── SourceJobError                      a job that its media come from has no video
    ├── TooManyUncertainError               so many in a row that a stream submits no more
    ├── TooManyAbandonedError               the same for jobs that did not end in time
    ├── BudgetExceededError                 a submit would exceed max_credits
    ├── JobError                            carries the job
    │   ├── GenerationFailedError   ├── GenerationCancelledError
    │   └── JobTimeoutError(TimeoutError)
    ├── DownloadError                       the video is made and paid; only fetching it failed
    └── JournalError                        the record of a run could not be read or written

Each carries its data as attributes and can be pickled. A mistake of the caller is a `ValueError`
or a `RuntimeError` too. No message, attribute or repr contains the API key.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from seedance_async.api.models import Generation
from seedance_async.api.request import GenerationRequest, Violation


class JobHandle(Protocol):
    """What an error says about its job. In the process that raised it, this is the `Job`."""

    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def request(self) -> GenerationRequest | None: ...  # noqa: D102
    @property
    def request_id(self) -> str | None: ...  # noqa: D102
    @property
    def generation(self) -> Generation | None: ...  # noqa: D102
    @property
    def token(self) -> str: ...  # noqa: D102
    async def wait(self, timeout: float | None = None) -> Generation: ...  # noqa: D102
    async def cancel(self) -> None: ...  # noqa: D102
    async def download(self, path: str | Path, *, overwrite: bool = False) -> Path: ...  # noqa: D102


def _rebuild(cls: type[SeedanceError], message: str, state: dict[str, Any]) -> SeedanceError:
    error = cls.__new__(cls, message)
    error.args = (message,)
    error.__dict__.update(state)
    return error


class SeedanceError(Exception):
    """The root of all errors of this SDK."""

    def __init__(self, message: str) -> None:
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), str(self.args[0]), dict(self.__dict__))


class ConfigurationError(SeedanceError, ValueError):
    """An option that cannot be used: no key, a bad base URL, a limit out of bounds."""


class InvalidRequestError(SeedanceError, ValueError):
    """A request that breaks a documented rule; nothing was sent.

    Attributes:
        field, value, rule: the first broken rule.
        violations: all of them.
    """

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        first = self.violations[0]
        self.field, self.value, self.rule = first.field, first.value, first.rule
        super().__init__("; ".join(_message(violation) for violation in self.violations))


class APIError(SeedanceError):
    """The server answered with an error.

    Attributes:
        status: the HTTP status.
        code: the API's own error code, or None if the body is not the API's error shape.
            Only `unauthorized` is documented: treat codes as data.
        message: the server's words.
        retry_after: seconds the server asks to wait, or None.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.status, self.code, self.message = status, code, message
        self.retry_after = retry_after
        label = f"HTTP {status}" + (f" {code}" if code else "")
        super().__init__(f"{label}: {message}")

    @classmethod
    def from_status(
        cls, status: int, message: str, *, code: str | None, retry_after: float | None
    ) -> APIError:
        """The error class that belongs to an HTTP status."""
        kind = _BY_STATUS.get(status) or (ServerError if status >= 500 else APIError)
        return kind(status, message, code=code, retry_after=retry_after)


class BadRequestError(APIError):
    """400 or 422: the server refused the request's content. Nothing was charged."""


class AuthenticationError(APIError):
    """401 or 403: the key is missing, wrong, expired or not allowed to do this."""


class InsufficientCreditsError(APIError):
    """402: the account cannot pay for the job. Nothing was charged."""


class NotFoundError(APIError):
    """404: no such job, model or path."""


class ConflictError(APIError):
    """409: the job's state does not allow it, such as cancelling a finished job."""


class RateLimitError(APIError):
    """429: too many requests, for longer than the options let the SDK wait."""


class ServerError(APIError):
    """5xx: the server, or a gateway in front of it, failed."""


_BY_STATUS: dict[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: AuthenticationError,
    404: NotFoundError,
    409: ConflictError,
    422: BadRequestError,
    429: RateLimitError,
}


class TransportError(SeedanceError):
    """There is no usable answer.

    Attributes:
        delivered: "no" if the server certainly did not see the request, else "maybe".
        transient: whether trying again can help; false for a bad certificate or address.
    """

    def __init__(
        self, message: str, *, delivered: Literal["no", "maybe"], transient: bool = True
    ) -> None:
        self.delivered, self.transient = delivered, transient
        super().__init__(message)


class UnreachableError(TransportError):
    """The API's host was not reached once: the base URL or the proxy may be wrong.

    Attributes:
        base_url: where the API should be.
    """

    def __init__(self, reason: str, *, base_url: str) -> None:
        self.base_url = base_url
        super().__init__(
            f"{base_url} was never reached: {reason}. Check base_url (SEEDANCE_BASE_URL) and, if"
            " one is needed, the proxy (HTTPS_PROXY)",
            delivered="no",
        )


class ResponseFormatError(TransportError):
    """An answer that is not the API's: HTML, a redirect, cut short, or with fields missing.

    Attributes:
        status: the HTTP status.
        snippet: the first 512 bytes of the body, as text.
        request_id: the id of a job that the body names although it is no acceptance, else None.
    """

    def __init__(
        self, message: str, *, status: int, snippet: str = "", request_id: str | None = None
    ) -> None:
        self.status, self.snippet, self.request_id = status, snippet, request_id
        super().__init__(message, delivered="maybe")


class SubmitUncertainError(SeedanceError):
    """The submit may have been accepted and charged; the SDK never sends it again on its own.

    Attributes:
        request: the request.
        key: the job's key in the session, or None outside one.
        request_id: the server's id if the answer had one that could not be used, else None.
        reason: what happened to the answer.

    What to do: look for the job in the vendor's dashboard. If it is there, pass its id to
    `SeedanceSession.attach`. If it certainly is not, submit again.
    """

    def __init__(
        self,
        reason: str,
        *,
        request: GenerationRequest,
        key: str | None = None,
        request_id: str | None = None,
    ) -> None:
        self.request, self.key, self.request_id, self.reason = request, key, request_id, reason
        super().__init__(
            f"the submit of {_short(request.prompt)} may have been accepted and charged, "
            f"and is not repeated: {reason}"
        )


class MediaUploadError(SeedanceError):
    """A file on this machine could not be uploaded; nothing was sent to the API, nothing charged.

    Attributes:
        name: the file's.
        reason: what went wrong.

    What to do: look at the reason, and submit again.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name, self.reason = name, reason
        super().__init__(f"{name} could not be uploaded, and nothing was submitted: {reason}")


class SourceJobError(SeedanceError):
    """A job whose video is a medium of this one has none; nothing was sent, and nothing charged.

    Attributes:
        key: that job's. If it was not submitted for the same reason, that of the first such job in
            the chain.
        reason: what is wrong with that one, or with its video.

    What to do: see to that job, and submit again.
    """

    def __init__(
        self, medium: str, key: str, reason: str, *, first: SourceJobError | None = None
    ) -> None:
        self.key: str = key if first is None else first.key
        self.reason: str = reason if first is None else first.reason
        via = "" if first is None else f", which waited for job {self.key}"
        super().__init__(f"nothing was submitted, for want of {medium}{via}: {self.reason}")


class TooManyUncertainError(SeedanceError):
    """Submits were uncertain one after the other, so a stream or a batch submits no more.

    Each of them may have been accepted and charged. What to do: look at the state of the service
    and at the vendor's dashboard, and settle the uncertain jobs before running the rest.

    Attributes:
        count: how many there were in a row.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(
            f"{count} submits in a row may have been charged without a usable answer, so no more "
            "are sent. Look at the service and at the vendor's dashboard, settle these, and run "
            "the rest; max_uncertain_in_a_row sets the number"
        )


class TooManyAbandonedError(SeedanceError):
    """Jobs were given up one after the other, so no more are submitted for now.

    Nothing was sent for this submit, and nothing charged. The jobs given up may still run: each is
    named in the log, and `SeedanceSession.attach` resumes it. Submits go on once one of them is
    known to have ended.

    Attributes:
        count: how many there were in a row.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(
            f"{count} jobs in a row were given up and may still run: until one is known to have "
            "ended, nothing more is submitted and nothing charged. Look at the service; attach the "
            "ids in the log for the results; max_abandoned_in_a_row sets the number"
        )


class BudgetExceededError(SeedanceError):
    """A submit was held back because it could take the charges over `max_credits`.

    Nothing was sent for it, and nothing charged.

    Attributes:
        max_credits: the limit.
        spent: credits charged so far, those of uncertain submits included.
        needed: the price of the submit.
        known: whether that price has been charged before; otherwise it is an estimate.
        unpriced: how many earlier submits hold it back, because nobody knows what they or it may
            cost; 0 if the limit does. A higher limit does not help.
    """

    def __init__(
        self, *, max_credits: int, spent: int, needed: int, known: bool, unpriced: int = 0
    ) -> None:
        self.max_credits, self.spent, self.needed, self.known = max_credits, spent, needed, known
        self.unpriced = unpriced
        price = f"{needed}" if known else f"an estimated {needed}"
        reason = f"{spent} of {max_credits} credits are spent, and this submit would need {price}"
        if unpriced:
            reason = (
                f"{unpriced} earlier submits under this limit may have been charged, and nobody "
                "knows what they or this one cost; it can be sent once the list of models or a "
                "charge tells, or uncertain ones among them are settled (adopted or forgotten)"
            )
        super().__init__(f"{reason}; nothing was sent")


class JobError(SeedanceError):
    """Something about one job.

    Attributes:
        job: the `Job`; after unpickling one that can be read but not awaited.
        request_id: the server's id of the job, to find it again with `SeedanceSession.attach`.
    """

    def __init__(self, message: str, *, job: JobHandle) -> None:
        self.job = job
        self.request_id = job.request_id
        super().__init__(f"job {job.request_id or job.key}: {message}")

    @property
    def generation(self) -> Generation | None:
        """The last answer of the server about the job."""
        return self.job.generation


class GenerationFailedError(JobError):
    """The server says that the job failed; `generation.error` says why."""


class GenerationCancelledError(JobError):
    """The job was cancelled before it completed."""


class JobTimeoutError(JobError, TimeoutError):
    """The deadline passed, or the job's state could not be read; the video may still come.

    The remote job was neither cancelled nor submitted again: `SeedanceSession.attach` with
    `request_id` resumes it.
    """


class DownloadError(SeedanceError):
    """Fetching a finished video failed. The generation itself succeeded and is paid.

    Attributes:
        request_id: the job whose video it is.
        path: where the video was to be saved; None if it was not to be a file.
        url: the object that it was to become in a store, else None.
        status: the HTTP status if the server refused, else None.
    """

    def __init__(
        self,
        message: str,
        *,
        request_id: str,
        path: Path | None = None,
        url: str | None = None,
        status: int | None = None,
    ) -> None:
        self.request_id, self.path, self.url, self.status = request_id, path, url, status
        place = url if path is None else path
        failed = "could not be read" if place is None else f"was not saved to {place}"
        super().__init__(f"the video of job {request_id} {failed}: {message}")


class JournalError(SeedanceError):
    """The durable record of a run cannot be used, or something could not be recorded.

    Attributes:
        path: the journal's file, or None for one without a file.
        request_id: the id of an accepted job that could not be recorded, else None. Keep it:
            `SeedanceSession.attach` resumes the job.
    """

    def __init__(
        self, reason: str, *, path: str | None = None, request_id: str | None = None
    ) -> None:
        self.path, self.request_id = path, request_id
        lost = f" (the accepted job {request_id} is not on record)" if request_id else ""
        where = f"journal {path}" if path else "the journal"
        super().__init__(f"{where}: {reason}{lost}")


def drop_frames(error: SeedanceError) -> SeedanceError:
    """The same error, which is no longer on its way to anybody, without any traceback."""
    chain: list[BaseException] = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) and before not in chain:
        chain.append(before)
    for each in chain:
        each.__traceback__ = None
    return error


def frameless(error: SeedanceError) -> SeedanceError:
    """A copy of an error and of what caused it, without tracebacks and the frames that they hold.

    It is what is kept of an error, and what is raised of one that is kept.
    """
    copied = copy.copy(error)
    copied.__cause__ = _frameless_cause(error.__cause__)
    return copied


def _frameless_cause(cause: BaseException | None, most: int = 5) -> BaseException | None:
    if cause is None or most == 0:
        return None
    try:
        copied = copy.copy(cause)
    except Exception:  # of any library, and not made to be copied: the error has its text
        return None
    copied.__cause__ = _frameless_cause(cause.__cause__, most - 1)
    return copied


def _message(violation: Violation) -> str:
    rule, text = violation.rule, f"{violation.field} {violation.rule}"
    if not rule.startswith("must"):
        return text
    is_plain = not any(mark in rule for mark in (" not ", ":", ";"))
    shown = _short(violation.value)
    return f"{text}, not {shown}" if is_plain else f"{text} (it is {shown})"


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # nested too deep, an integer too long to print, or a broken repr
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= 80 else text[:77] + "…"
