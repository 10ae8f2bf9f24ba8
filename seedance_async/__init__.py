"""The asyncio SDK for the Seedance 2.0 Open API: many video jobs, none paid twice, none lost."""

from seedance_async._version import __version__ as __version__
from seedance_async.backoff import Backoff
from seedance_async.bulk import BatchResult
from seedance_async.client import SeedanceClient
from seedance_async.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
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
from seedance_async.options import RetryPolicy, Timeouts
from seedance_async.protocol import dump_request, load_request
from seedance_async.registry import JobState, TaskRegistry
from seedance_async.session import SeedanceSession, SessionStats
from seedance_async.transport import AiohttpTransport, Transport

__all__ = [
    "APIError",
    "AiohttpTransport",
    "AspectRatio",
    "AuthenticationError",
    "Backoff",
    "BadRequestError",
    "BatchResult",
    "ConfigurationError",
    "ConflictError",
    "DownloadError",
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
    "dump_request",
    "load_request",
]
