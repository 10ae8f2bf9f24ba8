"""Compares the outcomes and the videos of a fleet with the emulator's ledger.

Nothing here trusts the SDK: the ledger and the jobs are the emulator's, and each video is compared
with the one that the server serves.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import aiohttp
import attrs
from yarl import URL

from benchmarks.torture.fleet_watch import Reader
from benchmarks.torture.fleet_worker import FleetPlan
from benchmarks.torture.judge import by_prompt, certainly_refused
from benchmarks.torture.shelf import FolderShelf
from seedance_async.emulator import LedgerEntry
from seedance_async.engines import Outcome, Task
from tests.support.emulator_process import EmulatorProcess

#: What must never happen, and what it is called in the table.
ZEROS = {
    "charged_twice": "charged twice",
    "sent_again": "sent again, possibly after a charge",
    "lost": "accepted, but without an outcome that says so",
    "lost_files": "made, but without its whole file",
    "foreign_ids": "wrong ids in an outcome",
    "stray_files": "stray files",
    "limits_passed": "limits passed",
    "not_told": "without an outcome",
    "told_twice": "told twice by one call of `results`",
    "told_otherwise": "told otherwise by another call",
    "unnamed": "uncertain, but not named",
}
_AT_ONCE = 50


@attrs.define(kw_only=True)
class FleetVerdict:
    """The figures of a run. Those of `ZEROS` must be zero."""

    figures: Counter[str] = attrs.field(factory=Counter)
    limits: list[str] = attrs.field(factory=list)
    details: list[str] = attrs.field(factory=list)

    @property
    def holds(self) -> bool:
        """Whether nothing happened that must never happen."""
        return not any(self.figures[name] for name in ZEROS)

    def blame(self, figure: str, subject: str, detail: str) -> None:
        """Count something that must not happen."""
        self.figures[figure] += 1
        self.details.append(f"{figure}: {subject}: {detail}")


@attrs.frozen
class Served:
    """What the emulator has done.

    Attributes:
        entries: of its ledger.
        statuses: of its jobs, by id.
        clips: the SHA-256 of the video of each kind of request.
    """

    entries: Sequence[LedgerEntry]
    statuses: Mapping[str, str]
    clips: Mapping[tuple[Any, ...], str]


async def seen_at(emulator: EmulatorProcess, plan: FleetPlan) -> Served:
    """Ask an emulator for all that it has done; it makes no faults any more."""
    entries = [LedgerEntry(**entry) for entry in await emulator.ledger()]
    kinds = {task.request.prompt: kind_of(task) for task in plan.tasks()}
    statuses: dict[str, str] = {}
    clips: dict[tuple[Any, ...], str] = {}
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    places = asyncio.Semaphore(_AT_ONCE)
    async with aiohttp.ClientSession(headers=headers) as http:
        async with http.post(f"{emulator.url}/_emulator/faults", json={"clear": True}) as done:
            assert done.status == 200

        async def ask(entry: LedgerEntry) -> None:
            async with places, http.get(_address(emulator, str(entry.request_id))) as response:
                job = await response.json()
            statuses[str(entry.request_id)] = job["status"]
            kind = kinds[str(entry.prompt)]
            if job["status"] == "succeeded" and kind not in clips:
                async with http.get(job["output"]["url"]) as response:
                    clips[kind] = hashlib.sha256(await response.read()).hexdigest()

        await asyncio.gather(*(ask(entry) for entry in entries if entry.outcome == "charged"))
    return Served(entries, statuses, clips)


def kind_of(task: Task) -> tuple[Any, ...]:
    """What tells the shared clips of an emulator apart."""
    return task.request.duration, task.request.aspect_ratio


def _address(emulator: EmulatorProcess, request_id: str) -> URL:
    name = quote(request_id, safe="").replace(".", "%2E")
    return URL(f"{emulator.url}/api/open/v1/video/generations/{name}", encoded=True)


class FleetJudge:
    """Judges one run.

    Args:
        plan: the work.
        served: what the emulator has done.
        reader: who read the outcomes during the run.
        late: who read all of them afterwards.
    """

    def __init__(self, plan: FleetPlan, served: Served, reader: Reader, late: Reader) -> None:
        self._plan, self._served, self._reader, self._late = plan, served, reader, late
        self._entries = by_prompt(served.entries, plan.name)
        self._shelf = FolderShelf(plan)
        self._verdict = FleetVerdict()

    def verdict(self) -> FleetVerdict:
        """All figures of the run."""
        for task in self._plan.tasks():
            self._judge_task(task, self._entries.get(task.request.prompt, []))
        self._judge_readers()
        self._judge_folder()
        self._judge_limits()
        return self._verdict

    def _judge_task(self, task: Task, entries: list[LedgerEntry]) -> None:
        figures, blame = self._verdict.figures, self._verdict.blame
        charged = [entry for entry in entries if entry.outcome == "charged"]
        figures["posts"] += len(entries)
        figures["charged"] += bool(charged)
        figures["never sent"] += not entries
        if len(charged) > 1:
            blame("charged_twice", task.key, f"{len(charged)} times")
        if any(not certainly_refused(entry) for entry in entries[:-1]):
            blame("sent_again", task.key, f"{[entry.fault for entry in entries]}")
        outcome = self._late.told.get(task.key)
        if outcome is None:
            blame("not_told", task.key, "it has no outcome")
            return
        figures[f"told as {outcome.state}"] += 1
        if outcome.state == "uncertain":
            figures["uncertain and charged" if charged else "uncertain, not charged"] += 1
            if not outcome.sent or not outcome.error:
                blame("unnamed", task.key, f"{outcome}")
        elif charged:
            self._judge_charged(task, outcome, charged)
        elif outcome.request_id is not None or outcome.state == "succeeded":
            blame("foreign_ids", task.key, f"{outcome}, but nothing was charged")

    def _judge_charged(self, task: Task, outcome: Outcome, charged: list[LedgerEntry]) -> None:
        """Check that the outcome of what was paid is the server's, under the server's id."""
        figures, ids = self._verdict.figures, [str(entry.request_id) for entry in charged]
        if outcome.request_id is not None and outcome.request_id not in ids:
            if any(entry.fault == "duplicate_request_id" for entry in charged):
                figures["lies believed"] += 1
            else:
                self._verdict.blame("foreign_ids", task.key, f"{outcome}, but it is {ids}")
            return
        status = self._served.statuses[ids[0]]
        figures["stuck"] += status in ("queued", "processing")
        wanted = "abandoned" if status in ("queued", "processing") else status
        if not outcome.sent or outcome.state != wanted:
            self._verdict.blame("lost", task.key, f"{outcome}, but the server says {status}")
        elif status == "succeeded":
            self._judge_file(task, outcome)

    def _judge_file(self, task: Task, outcome: Outcome) -> None:
        name = self._plan.video(task.request.prompt).name
        content = self._shelf.content(name)
        found = hashlib.sha256(content).hexdigest() if content else "nothing"
        told = (outcome.file, outcome.sha256)
        if told != (self._shelf.place(name), found) or found != self._served.clips[kind_of(task)]:
            self._verdict.blame("lost_files", task.key, f"{outcome}, but {name} is {found}")
        else:
            self._verdict.figures["videos"] += 1

    def _judge_readers(self) -> None:
        for reader in (self._reader, self._late):
            for key in reader.twice:
                self._verdict.blame("told_twice", key, "by one call")
            for key in reader.changed:
                self._verdict.blame("told_otherwise", key, "by a later call")
        for key, outcome in self._late.told.items():
            if self._reader.told.get(key) != outcome:
                detail = f"{self._reader.told.get(key)}, later {outcome}"
                self._verdict.blame("told_otherwise", key, detail)

    def _judge_folder(self) -> None:
        """Check that there are only the videos of the outcomes."""
        files = {outcome.file for outcome in self._late.told.values()}
        for name in self._shelf.names():
            if self._shelf.place(name) not in files:
                self._verdict.blame("stray_files", name, "belongs to no outcome")
        self._verdict.figures["leftovers"] = self._shelf.leftovers()

    def _judge_limits(self) -> None:
        plan = self._plan
        tasks = list(plan.tasks())
        for limit, counted in (
            (plan.max_credits, tasks),
            (plan.share_credits, [task for task in tasks if task.budget is not None]),
        ):
            if limit is None:
                continue
            prompts = [task.request.prompt for task in counted]
            spent = sum(entry.credits for each in prompts for entry in self._entries.get(each, []))
            self._verdict.limits.append(f"{spent} of {limit}")
            if spent > limit:
                self._verdict.blame("limits_passed", plan.name, f"{spent} of {limit}")
