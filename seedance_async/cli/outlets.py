"""stdout and stderr while a command runs: whatever happens to them, no write to them raises.

A reader that leaves (`| head`), a full disk, a closed descriptor: the jobs of a run are paid for,
so it goes on without its screen. Everything that writes is guarded here, the log, rich, click and
the interpreter's last flush too: rich would else leave at once, in the midst of a run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TextIO, cast


class Outlet:
    """A text stream that falls silent when it breaks.

    Args:
        stream: where the text goes.
        on_failure: called once with what broke it, unless its reader has merely left.

    Attributes:
        failure: what broke it, unless its reader has merely left; text was lost.
    """

    def __init__(self, stream: TextIO, on_failure: Callable[[OSError], object]) -> None:
        self._stream, self._on_failure = stream, on_failure
        self._is_broken = False
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write the text; what the stream's encoding does not have, as escapes."""
        try:
            self._try(self._stream.write, text)
        except UnicodeEncodeError as error:
            escaped = text.encode(error.encoding, "backslashreplace").decode(error.encoding)
            self._try(self._stream.write, escaped)
        return len(text)

    def flush(self) -> None:
        """Pass on what was written."""
        self._try(self._stream.flush)

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return self._stream.isatty()
        except (OSError, ValueError):
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, do: Callable[..., object], *given: str) -> None:
        if self._is_broken:
            return
        try:
            do(*given)
        except UnicodeEncodeError:
            raise
        except (BrokenPipeError, ValueError):  # the reader has left; the stream is closed
            self._fall_silent()
        except OSError as error:
            self._fall_silent()
            self.failure = error
            self._on_failure(error)

    def _fall_silent(self) -> None:
        """Let the descriptor lead nowhere: the interpreter flushes what is left as it exits."""
        self._is_broken = True
        with suppress(OSError, ValueError, AttributeError):  # it may have no descriptor
            number = self._stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)


@contextmanager
def guarded(on_failure: Callable[[OSError], object]) -> Iterator[Outlet]:
    """Guard stdout and stderr while the block runs; yields stdout.

    Args:
        on_failure: called once if stdout loses text: as it is written, or at the block's end.
    """
    before = sys.stdout, sys.stderr
    with ExitStack() as opened:
        stdout, stderr = (each or opened.enter_context(_nowhere()) for each in before)
        out, err = Outlet(stdout, on_failure), Outlet(stderr, lambda error: None)
        sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
        try:
            yield out
        finally:
            out.flush()
            err.flush()
            sys.stdout, sys.stderr = before


def stdout_has_failed() -> bool:
    """Whether text for stdout was lost, other than by its reader's leaving."""
    return getattr(sys.stdout, "failure", None) is not None


def _nowhere() -> TextIO:
    """In place of a stream that the process was started without (`>&-`)."""
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - closed by the guard
