"""What workers call the videos of a batch: they fill in the id, which is not known before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePath

from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.file_names import NameTemplate, chosen_names
from seedance_async.cli.runs.journal_entries import KnownJobs
from seedance_async.engines import ID


def task_files(
    template: NameTemplate | None,
    lines: Sequence[Line],
    known: KnownJobs,
    is_taken: Callable[[str], bool],
) -> list[str]:
    """The name of each line's video; one that was saved before keeps its name.

    Args:
        template: what `--name` says.
        lines: with their keys.
        known: what the queue's journal knows.
        is_taken: whether something has a name where the videos go.

    Raises:
        UsageError: a name cannot be made, or is that of another video.
    """
    saved = {entry.key: PurePath(entry.path).name for entry in known.entries if entry.path}
    names = set(saved.values())
    chosen = chosen_names(template, lines, known, lambda name: name in names or is_taken(name))
    made = (_usual(line) if chosen is None else chosen.with_id(line, ID) for line in lines)
    return [saved.get(line.key or "", name) for line, name in zip(lines, made, strict=True)]


def _usual(line: Line) -> str:
    """As `video_name` names it."""
    take = "" if line.take == 1 else f"take{line.take}-"
    return f"{line.number:04d}-{take}{ID}.mp4"
