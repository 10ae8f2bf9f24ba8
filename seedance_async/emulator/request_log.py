"""The request log: counts of requests, responses and faults, and the recent requests."""

import time
from collections import Counter, deque

from attrs import field, frozen

from seedance_async.emulator.clock import Changes


@frozen(kw_only=True)
class RequestRecord:
    """One request. ``status`` is that of the response, ``None`` if the connection was dropped."""

    time: float
    operation: str
    method: str
    path: str
    status: int | None
    fault: str | None


@frozen(kw_only=True)
class MediaRequest:
    """One request for a media file, with its header names in lower case."""

    time: float
    method: str
    path: str
    headers: dict[str, str] = field(repr=False)

    @property
    def carried_credentials(self) -> bool:
        """Whether it had an ``Authorization`` header; no media request should have one."""
        return "authorization" in self.headers


class RequestLog:
    """Counts by operation and status, and by operation and fault; the last 1,000 requests."""

    def __init__(self, changes: Changes, keep: int = 1000) -> None:
        self._changes = changes
        self.by_status: Counter[tuple[str, int | None]] = Counter()
        self.by_fault: Counter[tuple[str, str]] = Counter()
        self.recent: deque[RequestRecord] = deque(maxlen=keep)

    def __repr__(self) -> str:
        counts = ", ".join(f"{op} {status}: {n}" for (op, status), n in self.by_status.items())
        return f"<RequestLog {counts or 'empty'}>"

    def record(
        self, operation: str, method: str, path: str, status: int | None, fault: str | None
    ) -> None:
        """Count one request, before its response is sent."""
        self.by_status[operation, status] += 1
        if fault is not None:
            self.by_fault[operation, fault] += 1
        made = RequestRecord(
            time=time.time(),
            operation=operation,
            method=method,
            path=path,
            status=status,
            fault=fault,
        )
        self.recent.append(made)
        self._changes.notify()

    def record_fault(self, operation: str, kind: str) -> None:
        """Count a fault of a job or a webhook, which belongs to no request."""
        self.by_fault[operation, kind] += 1

    def count(self, operation: str, status: int | None = None) -> int:
        """The number of requests of this operation, or of those with this status."""
        if status is not None:
            return self.by_status[operation, status]
        return sum(count for (of, _), count in self.by_status.items() if of == operation)

    def fault_count(self, operation: str, kind: str) -> int:
        """How often this fault happened to this operation."""
        return self.by_fault[operation, kind]
