"""The shots of a batch's folder: its results, its journal and its files, put together for a page.

Each of them may be missing: a folder of videos alone has shots, too. Nothing here changes a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import attrs

from seedance_async import JobState, load_request
from seedance_async.cli.runs.next_steps import JOURNAL
from seedance_async.cli.runs.results import RESULTS
from seedance_async.journal import JournalEntry, read_entries
from seedance_async.media.gallery import Shot
from seedance_async.media.sidecar import Sidecar, poster_path, read_sidecar

#: The state of a job that a run has submitted and whose outcome is still to come.
RUNNING = "running"
_VIDEOS = (".mp4", ".mov", ".webm")


@attrs.frozen
class ShotFolder:
    """A folder of a batch.

    Attributes:
        folder: where the results and the videos are.
        journal: the journal's file, which need not exist.
    """

    folder: Path
    journal: Path

    @classmethod
    def of(cls, folder: Path, journal: Path | None = None) -> ShotFolder:
        """The folder with its own journal, unless another is named."""
        return cls(folder, journal or folder / JOURNAL)

    def signature(self) -> object:
        """What differs once anything in the folder has changed; cheap."""
        wal = self.journal.with_name(f"{self.journal.name}-wal")
        places = (self.folder, self.folder / RESULTS, self.journal, wal)
        return tuple(_stamp(place) for place in places)

    def is_empty(self) -> bool:
        """Whether there is nothing to show: no results, no journal, no video."""
        known = (self.journal, self.folder / RESULTS)
        return not (any(path.exists() for path in known) or self._videos())

    def _videos(self) -> list[Path]:
        files = sorted(self.folder.glob("[!.]*"))
        return [path for path in files if path.suffix.lower() in _VIDEOS]

    def read(self) -> list[Shot]:
        """All shots; the page puts them in order.

        Raises:
            JournalError: the journal cannot be read.
        """
        entries = read_entries(self.journal) if self.journal.exists() else []
        found = list(self._of_results(entries))
        told = {shot.request_id for shot in found} | {shot.id for shot in found}
        for entry in entries:
            if entry.request_id not in told and entry.key not in told:
                found.append(self._shot({}, entry))
        shown = {shot.video for shot in found}
        found += [
            self._shot({"file": str(path), "state": JobState.SUCCEEDED.value}, None)
            for path in self._videos()
            if path.resolve() not in shown
        ]
        return _without_single_takes({shot.id: shot for shot in found}.values())

    def _of_results(self, entries: Iterable[JournalEntry]) -> Iterator[Shot]:
        by_name: dict[str | None, JournalEntry] = {}
        for each in entries:
            by_name[each.key] = each
            if each.request_id is not None:
                by_name[each.request_id] = each
        for record in _records(self.folder / RESULTS):
            entry = by_name.get(record.get("request_id")) or by_name.get(record.get("key"))
            yield self._shot(record, entry)

    def _shot(self, record: Mapping[str, Any], entry: JournalEntry | None) -> Shot:
        file = record.get("file") or (entry.path if entry else None)
        video = self._video(file) if file else None
        beside = _sidecar(video) if video else None
        of = partial(_first, record, entry, beside)
        request = _request(record, entry, beside)
        request_id, key, line = of("request_id"), of("key"), of("line")
        return Shot(
            id=str(request_id or key or _digest(line, request, video)),
            state=record.get("state") or (_state(entry) if entry else JobState.SUCCEEDED.value),
            request=request,
            mode=_mode(request),
            line=line,
            take=of("take"),
            columns=of("columns") or {},
            request_id=request_id,
            key=key,
            credits=of("credits_charged"),
            error=_error(record) or (entry.error if entry and not record else None),
            next_step=record.get("next_step")
            or (f"saved as {file}" if file and not video else None),
            video=video,
            poster=_existing(poster_path(video)) if video else None,
            began=of("submitted_at") or (entry and entry.created_at) or None,
            ended=of("saved_at") or (entry.updated_at if entry and _has_ended(entry) else None),
        )

    def _video(self, file: str) -> Path | None:
        """The file where it is now: under the end of its recorded path, if the folder was moved."""
        parts = Path(file).parts
        tails = [self.folder.joinpath(*parts[n:]) for n in range(1, len(parts))]
        places = [Path(file), *tails, self.folder / Path(file).name]
        return next((place.resolve() for place in places if place.is_file()), None)


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    """The outcomes that a run has written so far; the last line may not be whole yet."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return
    for line in text.split("\n"):
        record = _parsed(line)
        if record:
            yield record


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        return _mapping(json.loads(text))
    except (ValueError, RecursionError):
        return {}


def _sidecar(video: Path) -> Sidecar | None:
    try:
        return read_sidecar(video)
    except (OSError, ValueError):
        return None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(
    record: Mapping[str, Any], entry: JournalEntry | None, beside: Sidecar | None, name: str
) -> Any:
    """A value from whoever has it: the results, the journal, the sidecar."""
    values = record.get(name), getattr(entry, name, None), getattr(beside, name, None)
    return next((value for value in values if value is not None), None)


def _request(
    record: Mapping[str, Any], entry: JournalEntry | None, beside: Sidecar | None
) -> Mapping[str, Any]:
    """The request as the API names its fields, from whoever has it whole; else its prompt.

    Files of this machine are named again where it is known what they were.
    """
    if beside is not None:
        files = beside.files
        media = [
            files.get(each, each) if isinstance(each, str) else each
            for each in beside.request.get("mediaUrls", ())
        ]
        return {**beside.request, "mediaUrls": media} if media else beside.request
    if entry is not None:
        return _parsed(entry.request)
    prompt = record.get("prompt")
    return {"prompt": prompt} if isinstance(prompt, str) else {}


def _without_single_takes(shots: Iterable[Shot]) -> list[Shot]:
    """The shots, without the number of the take where every line has one alone."""
    shots = list(shots)
    if any(shot.take is not None and shot.take > 1 for shot in shots):
        return shots
    return [attrs.evolve(shot, take=None) for shot in shots]


def _mode(request: Mapping[str, Any]) -> str | None:
    try:
        return load_request(request).mode.value
    except (ValueError, TypeError):
        return None


def _state(entry: JournalEntry) -> str:
    state = JobState(entry.state)
    return RUNNING if state.is_running or state is JobState.SUBMITTING else state.value


def _has_ended(entry: JournalEntry) -> bool:
    return JobState(entry.state).has_ended


def _error(record: Mapping[str, Any]) -> str | None:
    """The reason alone: the page says beside it which job it is, and that it failed."""
    message = str(_mapping(record.get("error")).get("message") or "")
    reason = message.removeprefix(f"job {record.get('request_id')}: ")
    return reason.removeprefix("the generation failed: ") or None


def _digest(*parts: object) -> str:
    return sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
