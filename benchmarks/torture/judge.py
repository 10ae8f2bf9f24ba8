"""Compares a batch's journal, report and videos with the emulator's ledger.

Nothing here trusts the SDK: the ledger and the jobs are the emulator's, the journal is read as a
SQLite file, and each video is compared with the one that the server serves.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import attrs

from benchmarks.torture.shelf import FolderShelf, Shelf
from benchmarks.torture.worker import Plan
from seedance_async.emulator import Emulator, LedgerEntry

#: Statuses after which a prompt may be submitted again: refused and certainly not charged.
_CERTAIN_REFUSALS = frozenset({400, 401, 402, 413, 415, 429})


class Row(NamedTuple):
    """One job in the journal's file."""

    key: str
    prompt: str
    state: str
    request_id: str | None
    path: str | None
    size: int | None
    sha256: str | None


@attrs.define(kw_only=True)
class Verdict:
    """The figures of one batch, or the sums of several. Those in `zeros` must be zero."""

    submissions: int = 0
    posts: int = 0
    charged: int = 0
    charged_twice: int = 0
    sent_again: int = 0
    unknown: int = 0
    foreign_ids: int = 0
    lies_believed: int = 0
    lost_files: int = 0
    half_files: int = 0
    stray_files: int = 0
    budget_overruns: int = 0
    budget: int = 0
    budget_spent: int = 0
    videos: int = 0
    failed: int = 0
    running: int = 0
    uncertain_reported: int = 0
    uncertain_charged: int = 0
    uncertain_not_charged: int = 0
    leftovers: int = 0
    never_sent: int = 0
    details: list[str] = attrs.field(factory=list)

    def add(self, other: Verdict) -> None:
        """Add the figures of another batch."""
        for field in attrs.fields(Verdict):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    @property
    def zeros(self) -> dict[str, int]:
        """How often each thing happened that must never happen."""
        names = "charged_twice sent_again unknown foreign_ids lost_files half_files stray_files"
        return {name: getattr(self, name) for name in [*names.split(), "budget_overruns"]}

    @property
    def holds(self) -> bool:
        """Whether none of them happened."""
        return not any(self.zeros.values())


class Judge:
    """Compares one batch with the ledger.

    Args:
        plan: the batch.
        emulator: with the ledger and the jobs.
        clips: the SHA-256 of the video of each succeeded job, see `true_clips`.
        report: the file with the report of the last life.
        seen: the SHA-256 of videos as they were right after kills, by file name.
        kills: how often it was killed.
        shelf: where the videos are; by default the plan's folder.
    """

    def __init__(
        self,
        plan: Plan,
        emulator: Emulator,
        clips: dict[tuple[Any, ...], str],
        report: Path,
        seen: Mapping[str, str],
        kills: int,
        shelf: Shelf | None = None,
    ) -> None:
        self._plan, self._emulator, self._clips = plan, emulator, clips
        self._seen, self._shelf = seen, shelf or FolderShelf(plan)
        self._entries = by_prompt(emulator.ledger, plan.name)
        self._rows = {row.prompt: row for row in read_journal(plan.journal)}
        self._reported = read_report(report)
        self._kills = kills
        self._verdict = Verdict(submissions=plan.count)

    def verdict(self) -> Verdict:
        """All figures of the batch."""
        for request in self._plan.requests():
            self._judge_prompt(request.prompt, self._entries.get(request.prompt, []))
        self._judge_folder()
        self._judge_budget()
        return self._verdict

    def _judge_prompt(self, prompt: str, entries: list[LedgerEntry]) -> None:
        verdict, row = self._verdict, self._rows.get(prompt)
        charged = [entry for entry in entries if entry.outcome == "charged"]
        verdict.posts += len(entries)
        verdict.charged += bool(charged)
        verdict.never_sent += not entries
        if len(charged) > 1:
            self._blame("charged_twice", prompt, f"{len(charged)} times")
        if any(not certainly_refused(entry) for entry in entries[:-1]):
            self._blame("sent_again", prompt, f"{[entry.fault for entry in entries]}")
        self._judge_knowledge(prompt, row, charged)
        for entry in charged:
            self._judge_file(prompt, row, str(entry.request_id))

    def _judge_knowledge(self, prompt: str, row: Row | None, charged: list[LedgerEntry]) -> None:
        """Check that whoever paid can know it: by the id in the journal, or as an uncertain job.

        A wrong id from the server is noticed only if it is the id of a job in the same journal.
        """
        known = row.request_id if row is not None else None
        if known is not None:
            if any(entry.fault == "duplicate_request_id" for entry in charged):
                self._verdict.lies_believed += 1
            elif known not in [entry.request_id for entry in charged]:
                self._blame("foreign_ids", prompt, f"{known!r}, which is not its own")
            return
        reported = self._reported.get(prompt)
        if row is not None and row.state == reported == "uncertain":
            self._verdict.uncertain_reported += 1
            self._verdict.uncertain_charged += bool(charged)
            self._verdict.uncertain_not_charged += not charged
        elif charged:
            self._blame("unknown", prompt, f"journal: {row and row.state}, report: {reported}")

    def _judge_file(self, prompt: str, row: Row | None, request_id: str) -> None:
        """Check that a succeeded job whose id is known has its video."""
        if row is None or row.request_id != request_id:
            return
        status = self._emulator.jobs[request_id].status
        verdict, name = self._verdict, self._plan.video(prompt).name
        verdict.failed += status in ("failed", "cancelled")
        verdict.running += status in ("queued", "processing")
        if status != "succeeded":
            return
        content = self._shelf.content(name)
        found = hashlib.sha256(content).hexdigest() if content else "nothing"
        wanted = self._clips[kind_of(self._emulator, request_id)]
        in_journal = (self._shelf.place(name), len(content), found)
        if found != wanted or (row.path, row.size, row.sha256) != in_journal:
            self._blame("lost_files", prompt, f"{row} but {name} is {found}")
        else:
            verdict.videos += 1
        if self._seen.get(name, wanted) != wanted:
            self._blame("half_files", prompt, "its video was incomplete after a kill")

    def _judge_folder(self) -> None:
        """Check that there are only videos, and the parts of them that kills have left."""
        expected = {
            self._plan.video(row.prompt).name
            for row in self._rows.values()
            if row.state == "succeeded"
        }
        for name in self._shelf.names():
            if name not in expected:
                self._blame("stray_files", name, "belongs to no job")
        self._verdict.leftovers = self._shelf.leftovers()
        most = self._kills * self._plan.max_downloads
        if self._verdict.leftovers > most:
            self._blame(
                "stray_files", "leftovers", f"{self._verdict.leftovers}, at most {most} expected"
            )

    def _judge_budget(self) -> None:
        entries = (entry for each in self._entries.values() for entry in each)
        spent, limit = sum(entry.credits for entry in entries), self._plan.max_credits
        if limit is not None:
            self._verdict.budget, self._verdict.budget_spent = limit, spent
            if spent > limit:
                self._blame("budget_overruns", self._plan.name, f"{spent} of {limit}")

    def _blame(self, figure: str, subject: str, detail: str) -> None:
        setattr(self._verdict, figure, getattr(self._verdict, figure) + 1)
        self._verdict.details.append(f"{figure}: {subject}: {detail}")


def by_prompt(ledger: Iterable[LedgerEntry], name: str) -> dict[str, list[LedgerEntry]]:
    """The ledger's entries of one batch by prompt; submits dropped unread have no prompt."""
    found: defaultdict[str, list[LedgerEntry]] = defaultdict(list)
    for entry in ledger:
        if entry.prompt is not None and entry.prompt.startswith(f"{name} "):
            found[entry.prompt].append(entry)
    return dict(found)


def certainly_refused(entry: LedgerEntry) -> bool:
    """Whether the client was told that nothing was charged, so that it may submit again."""
    if entry.outcome == "charged":
        return False
    return entry.status in _CERTAIN_REFUSALS or entry.fault == "503_refused"


def read_journal(path: Path) -> list[Row]:
    """The rows of a journal that no process has open."""
    named = "SELECT max(request_id) FROM attempts WHERE job = jobs.number"
    columns = f"key, json_extract(request, '$.prompt'), state, ({named}), path, size, sha256"
    with closing(sqlite3.connect(path)) as connection:
        return [Row(*found) for found in connection.execute(f"SELECT {columns} FROM jobs")]


def read_report(path: Path) -> dict[str, str]:
    """The states that a life reported, by prompt, without a line that was cut short."""
    reported: dict[str, str] = {}
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            record = json.loads(line)
            reported[record["prompt"]] = record["state"]
    return reported


def kind_of(emulator: Emulator, request_id: str) -> tuple[Any, ...]:
    """The key of a job's video among the shared clips."""
    job = emulator.jobs[request_id]
    return job.setting("duration"), job.setting("aspectRatio")


async def true_clips(emulator: Emulator) -> dict[tuple[Any, ...], str]:
    """The SHA-256 of each clip, as served without faults."""
    emulator.faults.clear()
    clips: dict[tuple[Any, ...], str] = {}
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    async with aiohttp.ClientSession(emulator.url) as http:
        for job in emulator.jobs.values():
            kind = kind_of(emulator, job.request_id)
            if job.status != "succeeded" or kind in clips or not job.request_id.startswith("req_"):
                continue
            path = f"/api/open/v1/video/generations/{job.request_id}"
            async with http.get(path, headers=headers) as response:
                url = (await response.json())["output"]["url"]
            async with http.get(url) as response:
                clips[kind] = hashlib.sha256(await response.read()).hexdigest()
    return clips
