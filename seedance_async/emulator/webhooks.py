"""Webhooks: the callbacks about ended jobs, and what goes wrong with them.

"Image to Video", table "Request Body", row ``webhookUrl``: "receives the final task result".
ASSUMPTION: the payload is the JSON of the status query, unsigned, and a callback is repeated after
a 5xx or no answer; the vendor says nothing about either. Callbacks go to loopback addresses only:
the emulator sends nothing off this machine.
"""

import asyncio
import json
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from attrs import frozen

from seedance_async.emulator.clock import Changes, Clock
from seedance_async.emulator.faults import Fault
from seedance_async.emulator.injection import Faults
from seedance_async.emulator.jobs import Jobs, SimulatedJob
from seedance_async.emulator.request_log import RequestLog

ATTEMPTS = 3
_WORKERS = 8
_PAUSE = 5.0  # virtual seconds, doubled for each attempt
_JSON = {"Content-Type": "application/json"}
_TIMEOUT = aiohttp.ClientTimeout(total=10)

Body = dict[str, Any]


def is_loopback(url: str) -> bool:
    """Whether the URL's host names this machine: localhost or a loopback address."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@frozen(kw_only=True)
class Delivery:
    """One attempt to deliver a callback. ``status`` is ``None`` if the receiver did not answer."""

    time: float
    request_id: str
    url: str
    body: dict[str, Any]
    attempt: int
    status: int | None
    note: str = ""

    @property
    def arrived(self) -> bool:
        """Whether the receiver accepted it."""
        return self.status is not None and self.status < 300


class Webhooks:
    """Calls webhooks when jobs end; ``deliveries`` has every attempt in order."""

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
        self._late: set[asyncio.TimerHandle] = set()
        self._workers: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None
        self.deliveries: list[Delivery] = []

    def plan(self, job: SimulatedJob) -> None:
        """Decide, when a job is accepted, what will go wrong with its callback."""
        if job.body.get("webhookUrl"):
            fault = self._faults.draw("webhook", job.request_id, job.prompt)
            if fault is not None:
                self._planned[job.request_id] = fault
                self._requests.record_fault("webhook", fault.kind)

    async def overtake(self, job: SimulatedJob, jobs: Jobs) -> None:
        """If so planned, end the job and wait until its callback has been delivered."""
        fault = self._planned.get(job.request_id)
        if fault is None or fault.kind != "before_answer":
            return
        if not job.is_terminal:
            jobs.finish(job.request_id)
        await self._changes.wait_until(lambda: job.request_id in self._done)

    def job_ended(self, job: SimulatedJob) -> None:
        """Queue the job's callback, if it has a webhook URL."""
        if not job.body.get("webhookUrl"):
            return
        if not self._workers:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
            self._workers = [asyncio.create_task(self._work()) for _ in range(_WORKERS)]
        fault = self._planned.get(job.request_id)
        if fault is None or not fault.seconds:
            self._queue.put_nowait(job)
            return
        delay = self._clock.real_delay(fault.seconds, virtual=fault.virtual)
        loop = asyncio.get_running_loop()
        self._late.add(loop.call_later(delay, self._queue.put_nowait, job))

    async def _work(self) -> None:
        while True:
            job = await self._queue.get()
            for body, payload in self._payloads(job):
                await self._deliver(job, body, payload)
            self._done.add(job.request_id)
            self._changes.notify()

    def _payloads(self, job: SimulatedJob) -> list[tuple[Body, bytes]]:
        """The callbacks to deliver, in order, and the bytes of each, with the planned fault."""
        bodies = self._bodies(job)
        payloads = [(body, json.dumps(body).encode()) for body in bodies]
        fault = self._planned.get(job.request_id)
        if fault is not None and fault.kind == "garbled":
            body, whole = payloads[0]
            payloads[0] = body, whole[: len(whole) // 2]
        return payloads

    def _bodies(self, job: SimulatedJob) -> list[Body]:
        true = self._describe(job)
        fault = self._planned.get(job.request_id)
        match fault.kind if fault else "":
            case "never":
                return []
            case "duplicate" | "garbled":
                return [true, true]
            case "out_of_order":
                return [true, {**true, "status": "processing", "output": None, "error": None}]
            case "forged":
                return [self._forged(true, fault), true]
        return [true]

    @staticmethod
    def _forged(true: Body, fault: Fault | None) -> Body:
        output = {"type": "video", "url": "https://attacker.example/malware.mp4"}
        forged = {**true, "status": "succeeded", "output": output, "error": None}
        return {**forged, **((fault and fault.value) or {})}

    async def _deliver(self, job: SimulatedJob, body: Body, payload: bytes) -> None:
        url = str(job.body["webhookUrl"])
        if not is_loopback(url):
            self._record(job, url, body, 0, None, "not sent: not a loopback address")
            return
        for attempt in range(1, ATTEMPTS + 1):
            status, note = await self._post(url, payload)
            self._record(job, url, body, attempt, status, note)
            if status is not None and status < 500:
                return
            await asyncio.sleep(self._clock.real(_PAUSE * 2**attempt))

    async def _post(self, url: str, payload: bytes) -> tuple[int | None, str]:
        assert self._session is not None
        try:
            # Redirects are not followed: they could lead off this machine.
            async with self._session.post(
                url, data=payload, headers=_JSON, allow_redirects=False
            ) as answer:
                return answer.status, ""
        except (aiohttp.ClientError, TimeoutError) as failure:
            return None, f"{type(failure).__name__}: {failure}"

    def _record(
        self,
        job: SimulatedJob,
        url: str,
        body: Body,
        attempt: int,
        status: int | None,
        note: str,
    ) -> None:
        delivery = Delivery(
            time=time.time(),
            request_id=job.request_id,
            url=url,
            body=body,
            attempt=attempt,
            status=status,
            note=note,
        )
        self.deliveries.append(delivery)
        self._changes.notify()

    async def close(self) -> None:
        """Stop delivering callbacks."""
        for timer in self._late:
            timer.cancel()
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
