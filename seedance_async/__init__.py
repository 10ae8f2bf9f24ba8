"""The asyncio SDK for the Seedance 2.0 Open API: many video jobs, none paid twice, none lost."""

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
    "Generation",
    "GenerationCancelledError",
    "GenerationFailedError",
    "GenerationMode",
    "GenerationRequest",
    "GenerationStatus",
    "InsufficientCreditsError",
    "InvalidRequestError",
    "Job",
    "JobError",
    "JobState",
    "JobTimeoutError",
    "JournalError",
    "MediaResponse",
    "Model",
    "ModelInfo",
    "NotFoundError",
    "RateLimitError",
    "Resolution",
    "ResponseFormatError",
    "RetryPolicy",
    "SeedanceClient",
    "SeedanceError",
    "SeedanceSession",
    "ServerError",
    "SessionStats",
    "Submission",
    "SubmitUncertainError",
    "TaskRegistry",
    "Timeouts",
    "Transport",
    "TransportError",
    "Violation",
    "WebhookReceiver",
    "WireRequest",
    "WireResponse",
    "dump_request",
    "load_request",
]
