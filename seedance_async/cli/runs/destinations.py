"""Where the videos of a run go: a folder, or a bucket with a folder for the record of the run."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs
import click

from seedance_async.cli.options import OutputPath, cannot_write
from seedance_async.cli.runs.journal_entries import saved_file

if TYPE_CHECKING:
    from seedance_async.media import StoredObject, StoreFolder

_Command = TypeVar("_Command", bound=Callable[..., Any])

#: What a folder with the record of a run says of the bucket that its videos are in.
_BUCKET = "bucket.txt"


class Destination(Protocol):
    """Where the videos of a run go."""

    @property
    def output(self) -> str:
        """What `-o` says."""

    def place(self, name: str) -> Path | StoredObject:
        """The place of a name, for `Job.download`."""

    def found(self, place: str | Path | None, size: int | None) -> Path | str | None:
        """The video with a recorded place and size, if it is still there."""

    def is_taken(self, name: str) -> bool:
        """Whether something has this name there."""


@attrs.frozen
class LocalFolder:
    """A folder on this machine."""

    folder: Path

    @property
    def output(self) -> str:
        """What `-o` says."""
        return str(self.folder)

    def place(self, name: str) -> Path:
        """See `Destination`."""
        return self.folder / name

    def found(self, place: str | Path | None, size: int | None) -> Path | str | None:
        """See `Destination`. The folder may have been moved."""
        return saved_file(place, size, self.folder)

    def is_taken(self, name: str) -> bool:
        """See `Destination`."""
        return (self.folder / name).exists()


@attrs.frozen
class Bucket:
    """A bucket, whose objects were listed when the run began."""

    store: StoreFolder
    _sizes: Mapping[str, int] = attrs.field(repr=False)

    @property
    def output(self) -> str:
        """What `-o` says."""
        return self.store.url

    def place(self, name: str) -> StoredObject:
        """See `Destination`."""
        return self.store.file(name)

    def found(self, place: str | Path | None, size: int | None) -> Path | str | None:
        """See `Destination`."""
        if place is None or not str(place).startswith(self.store.url):
            return None
        name = self.name_of(str(place))
        return str(place) if self._sizes.get(name) == size else None

    def is_taken(self, name: str) -> bool:
        """See `Destination`."""
        return name in self._sizes

    def name_of(self, url: str) -> str:
        """The name of an object by its URL."""
        return url.removeprefix(self.store.url)


async def opened(output: Path | str) -> LocalFolder | Bucket:
    """The place that `-o` names, found to be usable.

    Raises:
        ConfigurationError: the bucket cannot be used.
    """
    if isinstance(output, Path):
        return LocalFolder(output)
    from seedance_async.media import StoreFolder

    store = StoreFolder(output)
    await store.check_writable()
    return Bucket(store, await store.sizes())


# --- where the record of a run into a bucket is ---------------------------------------------------


def state_folder(output: Path | str, state: Path | None) -> Path:
    """The folder for the results and the journal of a run.

    Args:
        output: what `-o` says.
        state: what `--state` says.

    Raises:
        UsageError: `--state` without a bucket, or a folder with the record of another one.
    """
    if isinstance(output, Path):
        if state is not None:
            raise click.UsageError("--state is for a bucket; a folder has its own record in it")
        return output
    folder = state or Path(_folder_name(output))
    other = bucket_of(folder)
    if other not in (None, output):
        raise click.UsageError(
            f"{folder} has the record of a batch into {other}; for {output}, choose another folder "
            "with --state"
        )
    return folder


def bucket_of(folder: Path) -> str | None:
    """The bucket that the videos of the run recorded in a folder are in; None if in none."""
    try:
        return (folder / _BUCKET).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{folder / _BUCKET} cannot be read: {error}") from None


def remember_bucket(folder: Path, output: Path | str) -> None:
    """Keep, beside the record of a run, the bucket that its videos go to.

    Raises:
        UsageError: the folder cannot be written.
    """
    if isinstance(output, Path):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _BUCKET).write_text(f"{output}\n", encoding="utf-8")
    except OSError as error:
        raise cannot_write(folder, error) from None


def _folder_name(url: str) -> str:
    """`my-bucket-films` for `s3://my-bucket/films/`."""
    return "-".join(re.findall(r"[A-Za-z0-9._]+", url.partition("://")[2])) or "bucket"


# --- the options ----------------------------------------------------------------------------------


class _Output(OutputPath):
    """A folder, or the URL of a bucket."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and "://" in value:
            return value.rstrip("/") + "/"
        return super().convert(value, param, ctx)


def output_option(help_text: str, default: Path | None = None) -> Callable[[_Command], _Command]:
    """`-o`, a folder or a bucket; the command gets a path or a URL with a slash at its end."""
    return click.option(
        "-o",
        "--output",
        type=_Output(file_okay=False, path_type=Path),
        metavar="DIR|BUCKET",
        default=default,
        show_default=default is not None,
        help=help_text,
    )


state_option = click.option(
    "--state",
    type=OutputPath(file_okay=False, path_type=Path),
    metavar="DIR",
    help="With a bucket: the folder for results.jsonl and the journal.  [default: named after the"
    " bucket, in the current folder]",
)
