"""What to do next: the commands that a run tells its user to copy. It knows no outcomes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

import attrs

#: The name of a batch's journal in its folder.
JOURNAL = "run.db"


@attrs.frozen
class Advice:
    """How the jobs of one run are gone on with.

    Attributes:
        folder: where the videos go; None for here.
        journal: the run's journal; None where it keeps none.
    """

    folder: Path | None = None
    journal: Path | None = None

    def fetch(self, ids: Iterable[str], *, wait: bool = False) -> str:
        """The command that takes jobs up again and saves their videos."""
        return self._resume() if self.journal is not None else self._status(ids, wait=wait)

    def go_on(self, ids: Iterable[str]) -> str:
        """How a run that was broken off is gone on with."""
        if self.journal is None:
            return f"To take them up again: {self._status(ids, wait=True)}"
        return f"To go on: the same command again; or, with nothing submitted: {self._resume()}"

    def settle(self, key: str | None) -> str:
        """What to do about an uncertain submit, by its key in the journal."""
        look = "look for the job in the vendor's dashboard; if it is there: "
        if self.journal is None:
            return (
                f"{look}{self._status(['REQUEST_ID'], wait=True)}; "
                "if it certainly is not, submit it again"
            )
        words = ["seedance", "journal", "adopt", *self._place("--journal"), key or "KEY"]
        return (
            f"{look}{shlex.join([*words, 'REQUEST_ID'])}; if it certainly is not: "
            "the same command with --resubmit-uncertain"
        )

    def _status(self, ids: Iterable[str], *, wait: bool) -> str:
        ids = list(ids)
        words = ["seedance", "status", *(["--wait"] if wait else []), "-o", str(self.folder or ".")]
        if any(request_id.startswith("-") for request_id in ids):
            words.append("--")
        return shlex.join([*words, *ids])

    def _resume(self) -> str:
        words = ["seedance", "resume", *self._place()]
        if not self._is_usual:
            words += ["-o", str(self.folder or ".")]
        return shlex.join(words)

    @property
    def _is_usual(self) -> bool:
        return self.folder is not None and self.journal == self.folder / JOURNAL

    def _place(self, *option: str) -> list[str]:
        """The journal as an argument; a folder stands for the journal in it."""
        return [*option, str(self.folder if self._is_usual else self.journal)]
