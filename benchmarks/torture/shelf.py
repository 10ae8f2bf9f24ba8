"""Where the videos of a batch are, looked at from outside: a folder."""

from __future__ import annotations

from typing import Protocol

from benchmarks.torture.worker import Plan


class Shelf(Protocol):
    """A place with videos, each under the name of its prompt."""

    def names(self) -> list[str]:
        """What is there, but for what a killed process may leave."""

    def content(self, name: str) -> bytes:
        """What has a name; empty if nothing has."""

    def place(self, name: str) -> str:
        """What a journal says of a name."""

    def leftovers(self) -> int:
        """How many parts of videos killed processes have left."""


class FolderShelf:
    """A folder. Its part files are hidden."""

    def __init__(self, plan: Plan) -> None:
        self._folder = plan.videos

    def names(self) -> list[str]:
        if not self._folder.is_dir():
            return []  # nobody has lived long enough to make it
        return [path.name for path in self._folder.iterdir() if not _is_part(path.name)]

    def content(self, name: str) -> bytes:
        path = self._folder / name
        return path.read_bytes() if path.is_file() else b""

    def place(self, name: str) -> str:
        return str(self._folder / name)

    def leftovers(self) -> int:
        return sum(_is_part(path.name) for path in self._folder.iterdir())


def _is_part(name: str) -> bool:
    return name.startswith(".") and name.endswith(".part")
