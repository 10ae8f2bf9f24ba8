"""Webhooks: owns the callbacks about ended jobs, and what goes wrong with them.

ASSUMPTION: the payload is the JSON of the status query; the API's pages do not say. A callback
leaves only for a loopback address: the emulator sends nothing off this machine.
"""

import asyncio
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from attrs import frozen

from .clock import Changes, Clock
from .faults import Fault
from .injection import Faults
from .jobs import Jobs, SimulatedJob
from .request_log import RequestLog

ATTEMPTS = 3
_WORKERS = 8
_PAUSE = 5.0  # virtual seconds, doubled at each attempt
_TIMEOUT = aiohttp.ClientTimeout(total=10)


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine by its very name."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@frozen(kw_only=True)
class Delivery:
    """One attempt to call back. ``status`` is the receiver's answer, ``None`` if none came."""

    time: float
    request_id: str
    url: str
    body: dict[str, Any]
    attempt: int
    status: int | None
    note: str = ""

    @property
    def arrived(self) -> bool:
        """Whether the receiver took it."""
        return self.status is not None and self.status < 300


class Webhooks:
    """Calls back when jobs end; ``deliveries`` is every attempt in order."""

    def __init__(
        self,
        clock: Clock,
        changes: Changes,
        faults: Faults,
        requests: RequestLog,
        describe: Callable[[SimulatedJob], dict[str, Any]],
    ) -> None:
        self._clock, self._changes, self._faults = clock, changes, faults
        self._requests, self._describe = requests, describe
        self._queue: asyncio.Queue[SimulatedJob] = asyncio.Queue()
        self._planned: dict[str, Fault] = {}
        self._done: set[str] = set()
        self._workers: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self.deliveries: list[Delivery] = []

    def plan(self, job: SimulatedJob) -> None:
        """Decide at a job's acceptance what will go wrong with its callback."""
        if job.body.get("webhookUrl"):
            fault = self._faults.draw("webhook", job.request_id, job.prompt)
            if fault is not None:
                self._planned[job.request_id] = fault
                self._requests.record_fault("webhook", fault.kind)

    async def overtake(self, job: SimulatedJob, jobs: Jobs) -> None:
        """If so planned, end the job and wait until its callback has been made."""
        fault = self._planned.get(job.request_id)
        if fault is None or fault.kind != "before_answer":
            return
        if not job.is_terminal:
            jobs.finish(job.request_id)
        await self._changes.wait_until(lambda: job.request_id in self._done)

    def job_ended(self, job: SimulatedJob) -> None:
        """Take the job's callback into the queue, if it wants one."""
        if not job.body.get("webhookUrl"):
            return
        if not self._workers:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
            self._workers = [asyncio.create_task(self._work()) for _ in range(_WORKERS)]
        self._queue.put_nowait(job)

    async def _work(self) -> None:
        while True:
            job = await self._queue.get()
            for body in self._bodies(job):
                await self._deliver(job, body)
            self._done.add(job.request_id)
            self._changes.notify()

    def _bodies(self, job: SimulatedJob) -> list[dict[str, Any]]:
        """What to send, in order, with the planned fault in it."""
        true = self._describe(job)
        fault = self._planned.get(job.request_id)
        match fault.kind if fault else "":
            case "never":
                return []
            case "duplicate":
                return [true, true]
            case "out_of_order":
                return [true, {**true, "status": "processing", "output": None, "error": None}]
            case "forged":
                return [self._forged(true, fault), true]
        return [true]

    @staticmethod
    def _forged(true: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        lie = {"type": "video", "url": "https://attacker.example/malware.mp4"}
        told = {**true, "status": "succeeded", "output": lie, "error": None}
        return {**told, **((fault and fault.value) or {})}

    async def _deliver(self, job: SimulatedJob, body: dict[str, Any]) -> None:
        url = str(job.body["webhookUrl"])
        if not is_loopback(url):
            self._record(job, url, body, 0, None, "not sent: not a loopback address")
            return
        for attempt in range(1, ATTEMPTS + 1):
            status, note = await self._post(url, body)
            self._record(job, url, body, attempt, status, note)
            if status is not None and status < 500:
                return
            await asyncio.sleep(self._clock.real(_PAUSE * 2**attempt))

    async def _post(self, url: str, body: dict[str, Any]) -> tuple[int | None, str]:
        assert self._session is not None
        try:
            # Redirects are not followed: they could lead off this machine.
            async with self._session.post(url, json=body, allow_redirects=False) as answer:
                return answer.status, ""
        except (aiohttp.ClientError, TimeoutError) as failure:
            return None, f"{type(failure).__name__}: {failure}"

    def _record(
        self,
        job: SimulatedJob,
        url: str,
        body: dict[str, Any],
        attempt: int,
        status: int | None,
        note: str,
    ) -> None:
        made = Delivery(
            time=time.time(),
            request_id=job.request_id,
            url=url,
            body=body,
            attempt=attempt,
            status=status,
            note=note,
        )
        self.deliveries.append(made)
        self._changes.notify()

    async def close(self) -> None:
        """Stop calling back."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
