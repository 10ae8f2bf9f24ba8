"""The commands that a run suggests to its user, ready to be copied."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

#: The name of a batch's journal in its folder.
JOURNAL = "run.db"

#: Lines that a suggested command names.
_FEW = 20


@attrs.frozen
class NextSteps:
    """What to do next about the jobs of one run.

    Attributes:
        folder: where the videos go; None for the current folder.
        journal: the run's journal; None if it keeps none.
    """

    folder: Path | None = None
    journal: Path | None = None

    def download(self, ids: Iterable[str], *, wait: bool = False) -> str:
        """The command that saves the videos of jobs; `wait` for jobs that have not ended."""
        return self._resume() if self.journal is not None else self._status(ids, wait=wait)

    def resume(self, ids: Iterable[str]) -> str:
        """How to resume a run that was interrupted."""
        if self.journal is None:
            return f"To resume: {self._status(ids, wait=True)}"
        return f"To resume: the same command again; or, to submit nothing more: {self._resume()}"

    def settle(self, key: str | None) -> str:
        """What to do about an uncertain submit, by its key in the journal."""
        look = "look for the job in the vendor's dashboard; if it exists: "
        if self.journal is None:
            return (
                f"{look}{self._status(['REQUEST_ID'], wait=True)}; "
                "if it certainly does not, submit it again"
            )
        words = ["seedance", "journal", "adopt", *self._place("--journal"), key or "KEY"]
        return (
            f"{look}{shlex.join([*words, 'REQUEST_ID'])}; if it certainly does not: "
            "the same command with --resubmit-uncertain"
        )

    def repeat(self, lines: Sequence[str]) -> str | None:
        """How to buy lines of a batch, such as `3` and `7-9`, once more; None if it has none."""
        if self.journal is None or not lines:
            return None
        more = " and so on" if len(lines) > _FEW else ""
        return f"to buy it again as it is: {self._reroll(lines[:_FEW])}{more}"

    def repeat_source(self, line: int) -> str:
        """How to buy a line of a batch once more, and with it all that is made from it."""
        return f"to buy line {line} again, and what is made from it: {self._reroll([str(line)])}"

    def _reroll(self, lines: Sequence[str]) -> str:
        words = ["seedance", "reroll", str(self.folder or "."), *lines]
        return shlex.join(words + ([] if self._is_default else ["--journal", str(self.journal)]))

    def _status(self, ids: Iterable[str], *, wait: bool) -> str:
        ids = list(ids)
        words = ["seedance", "status", *(["--wait"] if wait else []), "-o", str(self.folder or ".")]
        if any(request_id.startswith("-") for request_id in ids):
            words.append("--")
        return shlex.join([*words, *ids])

    def _resume(self) -> str:
        words = ["seedance", "resume", *self._place()]
        if not self._is_default:
            words += ["-o", str(self.folder or ".")]
        return shlex.join(words)

    @property
    def _is_default(self) -> bool:
        return self.folder is not None and self.journal == self.folder / JOURNAL

    def _place(self, *option: str) -> list[str]:
        """The journal as an argument; a folder stands for the journal in it."""
        return [*option, str(self.folder if self._is_default else self.journal)]
