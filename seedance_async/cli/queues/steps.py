"""What a user can do about jobs that workers make: the commands to copy."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

import attrs

from seedance_async.cli.runs.next_steps import NextSteps


@attrs.frozen
class QueueSteps(NextSteps):
    """The next steps of a run in a queue.

    Attributes:
        option: `--queue URL`, as a user writes it.
        run: the name of the run.
    """

    option: str = attrs.field(default="", kw_only=True)
    run: str = attrs.field(default="", kw_only=True)

    def command(self, name: str, *words: str) -> str:
        """A command of `seedance queue` for this run."""
        return f"seedance queue {name} {self.option} {shlex.join(['--run', self.run, *words])}"

    def download(self, ids: Iterable[str], *, wait: bool = False) -> str:
        """How to have workers save what is not saved, or go on with what is no longer waited for.

        A job that is still running is waited for by its worker, and shown by the same command.
        """
        return f"{self.command('resume')}, then the same command again"

    def resume(self, ids: Iterable[str]) -> str:
        """How to see the run again, look at it, or end it."""
        return (
            f"To see it again: the same command; how far it is: {self.command('status')}; "
            f"to end it: {self.command('cancel')}"
        )

    def settle(self, key: str | None) -> str:
        """See `NextSteps`."""
        return settle(self.option, key)

    def repeat(self, lines: Sequence[str]) -> str | None:
        """Nothing rerolls lines of a queue."""
        return None


def settle(option: str, key: str | None) -> str:
    """What to do about an uncertain submit."""
    name = shlex.quote(key) if key else "KEY"
    return (
        "look for the job in the vendor's dashboard; if it exists: "
        f"seedance queue adopt {option} {name} REQUEST_ID; if it certainly does not: "
        f"seedance queue resubmit {option} {name}"
    )
