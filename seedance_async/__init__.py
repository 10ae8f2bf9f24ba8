"""The asyncio SDK for the Seedance 2.0 Open API: many video jobs, none paid twice, none lost."""

from typing import TYPE_CHECKING

from seedance_async._utils.version import __version__ as __version__
from seedance_async.api.backoff import Backoff
from seedance_async.api.client import ClientOptions, SeedanceClient
from seedance_async.api.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConfigurationError,
    ConflictError,
    DownloadError,
    GenerationCancelledError,
    GenerationFailedError,
    InsufficientCreditsError,
    InvalidRequestError,
    JobError,
    JobTimeoutError,
    JournalError,
    MediaUploadError,
    NotFoundError,
    RateLimitError,
    ResponseFormatError,
    SeedanceError,
    ServerError,
    SourceJobError,
    SubmitUncertainError,
    TooManyAbandonedError,
    TooManyUncertainError,
    TransportError,
    UnreachableError,
)
from seedance_async.api.job_media import JobMedium
from seedance_async.api.models import (
    ErrorDetail,
    Generation,
    GenerationStatus,
    ModelInfo,
    Submission,
)
from seedance_async.api.options import Endpoint, RetryPolicy, Timeouts, TransportOptions
from seedance_async.api.prepared_request import dump_request, load_request, without_query
from seedance_async.api.protocol import WireRequest, WireResponse
from seedance_async.api.request import GenerationRequest
from seedance_async.api.rules import Violation
from seedance_async.api.transport import (
    AiohttpTransport,
    DirectTransport,
    MediaResponse,
    Transport,
)
from seedance_async.api.vocabulary import AspectRatio, GenerationMode, Model, Resolution
from seedance_async.jobs.job import Job, JobToken
from seedance_async.jobs.polling.adaptive import LearnedPolls
from seedance_async.jobs.registry import SavedFile, TaskRegistry
from seedance_async.jobs.state import JobState
from seedance_async.jobs.stats import SessionStats
from seedance_async.jobs.updates import JobUpdate
from seedance_async.session.batch import BatchResult
from seedance_async.session.options import SessionOptions
from seedance_async.session.session import SeedanceSession
from seedance_async.webhooks import WebhookReceiver

if TYPE_CHECKING:
    from seedance_async.jobs.events import (
        Event,
        JobAbandoned,
        JobAccepted,
        JobCancelled,
        JobEvent,
        JobFailed,
        JobRejected,
        JobResumed,
        JobStarted,
        JobSubmitted,
        JobSucceeded,
        JobTrouble,
        JobWithdrawn,
        LimitsChanged,
        PollFailed,
        RequestRetried,
        RequestThrottled,
        SubmitBecameUncertain,
        VideoSaved,
        WaitBecameLong,
    )
    from seedance_async.journal import Journal

__all__ = [
    "APIError",
    "AiohttpTransport",
    "AspectRatio",
    "AuthenticationError",
    "Backoff",
    "BadRequestError",
    "BatchResult",
    "BudgetExceededError",
    "ClientOptions",
    "ConfigurationError",
    "ConflictError",
    "DirectTransport",
    "DownloadError",
    "Endpoint",
    "ErrorDetail",
    "Event",
    "Generation",
    "GenerationCancelledError",
    "GenerationFailedError",
    "GenerationMode",
    "GenerationRequest",
    "GenerationStatus",
    "InsufficientCreditsError",
    "InvalidRequestError",
    "Job",
    "JobAbandoned",
    "JobAccepted",
    "JobCancelled",
    "JobError",
    "JobEvent",
    "JobFailed",
    "JobMedium",
    "JobRejected",
    "JobResumed",
    "JobStarted",
    "JobState",
    "JobSubmitted",
    "JobSucceeded",
    "JobTimeoutError",
    "JobToken",
    "JobTrouble",
    "JobUpdate",
    "JobWithdrawn",
    "Journal",
    "JournalError",
    "LearnedPolls",
    "LimitsChanged",
    "MediaResponse",
    "MediaUploadError",
    "Model",
    "ModelInfo",
    "NotFoundError",
    "PollFailed",
    "RateLimitError",
    "RequestRetried",
    "RequestThrottled",
    "Resolution",
    "ResponseFormatError",
    "RetryPolicy",
    "SavedFile",
    "SeedanceClient",
    "SeedanceError",
    "SeedanceSession",
    "ServerError",
    "SessionOptions",
    "SessionStats",
    "SourceJobError",
    "Submission",
    "SubmitBecameUncertain",
    "SubmitUncertainError",
    "TaskRegistry",
    "Timeouts",
    "TooManyAbandonedError",
    "TooManyUncertainError",
    "Transport",
    "TransportError",
    "TransportOptions",
    "UnreachableError",
    "VideoSaved",
    "Violation",
    "WaitBecameLong",
    "WebhookReceiver",
    "WireRequest",
    "WireResponse",
    "dump_request",
    "load_request",
    "without_query",
]


def __getattr__(name: str) -> object:
    """The events and the contract of journals, which are imported only if one is used."""
    if name == "Journal":
        from seedance_async import journal

        return journal.Journal
    if name in __all__:
        from seedance_async.jobs import events

        return getattr(events, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, "__all__", "__doc__", "__file__", "__path__", "__version__"})
