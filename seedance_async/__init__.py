"""The asyncio SDK for the Seedance 2.0 Open API: many video jobs, none paid twice, none lost."""

from typing import TYPE_CHECKING

from seedance_async._version import __version__ as __version__
from seedance_async.backoff import Backoff
from seedance_async.bulk import BatchResult
from seedance_async.client import SeedanceClient
from seedance_async.errors import (
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
    NotFoundError,
    RateLimitError,
    ResponseFormatError,
    SeedanceError,
    ServerError,
    SubmitUncertainError,
    TransportError,
)
from seedance_async.job import Job
from seedance_async.learning import LearnedPolls
from seedance_async.models import (
    AspectRatio,
    ErrorDetail,
    Generation,
    GenerationMode,
    GenerationRequest,
    GenerationStatus,
    Model,
    ModelInfo,
    Resolution,
    Submission,
    Violation,
)
from seedance_async.options import Endpoint, RetryPolicy, Timeouts
from seedance_async.protocol import WireRequest, WireResponse, dump_request, load_request
from seedance_async.registry import JobState, TaskRegistry
from seedance_async.session import SeedanceSession
from seedance_async.stats import SessionStats
from seedance_async.transport import AiohttpTransport, MediaResponse, Transport
from seedance_async.webhooks import WebhookReceiver

if TYPE_CHECKING:
    from seedance_async.events import (
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
        PollFailed,
        RequestThrottled,
        SubmitBecameUncertain,
        VideoSaved,
    )

__all__ = [
    "APIError",
    "AiohttpTransport",
    "AspectRatio",
    "AuthenticationError",
    "Backoff",
    "BadRequestError",
    "BatchResult",
    "BudgetExceededError",
    "ConfigurationError",
    "ConflictError",
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
    "JobRejected",
    "JobResumed",
    "JobStarted",
    "JobState",
    "JobSubmitted",
    "JobSucceeded",
    "JobTimeoutError",
    "JobTrouble",
    "JobWithdrawn",
    "JournalError",
    "LearnedPolls",
    "MediaResponse",
    "Model",
    "ModelInfo",
    "NotFoundError",
    "PollFailed",
    "RateLimitError",
    "RequestThrottled",
    "Resolution",
    "ResponseFormatError",
    "RetryPolicy",
    "SeedanceClient",
    "SeedanceError",
    "SeedanceSession",
    "ServerError",
    "SessionStats",
    "Submission",
    "SubmitBecameUncertain",
    "SubmitUncertainError",
    "TaskRegistry",
    "Timeouts",
    "Transport",
    "TransportError",
    "VideoSaved",
    "Violation",
    "WebhookReceiver",
    "WireRequest",
    "WireResponse",
    "dump_request",
    "load_request",
]


def __getattr__(name: str) -> object:
    """The events: a score of classes, imported only if one is asked for."""
    if name in __all__:
        from seedance_async import events

        return getattr(events, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
