"""The keys of takes, and the takes of an input's lines.

The first take has the key of its line, so that a folder from before there were takes goes on as it
is. Each further one has that key with its number, in every run: however often takes are asked for,
each is bought once.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs
import click

from seedance_async import GenerationRequest, JobMedium, JobState
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.journal_entries import request_of, state_of
from seedance_async.journal import JournalEntry, keys_of

takes_option = click.option(
    "--takes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Make so many videos of each line. Each is a job of its own, and is paid for.",
)

_AUTOMATIC = re.compile(r"[0-9a-f]{32}-[0-9]+")
_TAKE = re.compile(r"(?P<line>.+)\.take(?P<take>[2-9]|[1-9][0-9]+)", re.DOTALL)


def take_key(line_key: str, take: int) -> str:
    """The key of a take of the line with this key."""
    return line_key if take == 1 else f"{line_key}.take{take}"


def split_key(key: str) -> tuple[str, int]:
    """The key of the line, and the number of the take."""
    found = _TAKE.fullmatch(key)
    return (found["line"], int(found["take"])) if found else (key, 1)


def has_automatic_key(entry: JournalEntry) -> bool:
    """Whether the line of a job gave no key, so that the job is known by its request."""
    return _AUTOMATIC.fullmatch(split_key(entry.key)[0]) is not None


def from_takes(request: GenerationRequest, key_of_take: Callable[[str], str]) -> GenerationRequest:
    """A request of its own, whose media are takes of the jobs that it names.

    Args:
        request: the request.
        key_of_take: the key of the take, given that of the line.
    """
    media = [
        attrs.evolve(each, key=key_of_take(each.key), job=None)
        if isinstance(each, JobMedium)
        else each
        for each in request.media_urls
    ]
    return attrs.evolve(request, media_urls=media)


def sources(request: GenerationRequest) -> list[JobMedium]:
    """The media that are the videos of other jobs."""
    return [each for each in request.media_urls if isinstance(each, JobMedium)]


def with_takes(
    lines: Sequence[Line],
    takes: int,
    entries: Iterable[JournalEntry],
    media_key: Callable[[str], str] | None = None,
) -> list[Line]:
    """The jobs of a run: first the first take of each line, then the second ones, and so on.

    Takes that were bought before belong to their line, however many are asked for now. Where lines
    are made from others, a second take is made from the second take of those.

    Args:
        lines: the input's.
        takes: how many takes of each line there are to be.
        entries: the journal's.
        media_key: see `SessionOptions`.

    Raises:
        UsageError: a line has the key that another line, or a take of one, is to have; or a take
            would be bought from which nothing is made, as the same take of a line that depends on
            it was made from another one.
    """
    keys = keys_of([line.item for line in lines], media_key=media_key)
    first = [attrs.evolve(line, key=key) for line, key in zip(lines, keys, strict=True)]
    own = {line.key: line.number for line in reversed(first)}
    for line in first:
        if own[line.key] != line.number:
            raise click.UsageError(
                f"lines {own[line.key]} and {line.number} both have the key “{line.key}”: one "
                "gives it, and the other one has it without giving any; nothing was sent. Give "
                "both of them a key, or none"
            )
    bought = _bought(entries, own)
    further = [
        _take_of(line, take, bought[line.key or ""])
        for line in first
        for take in sorted({*range(2, takes + 1), *bought[line.key or ""]})
    ]
    for line in further:
        if line.key in own:
            raise click.UsageError(
                f"line {own[line.key]}: its key “{line.key}” is that of take {line.take} of line "
                f"{line.number}; nothing was sent"
            )
    _check_films(first, further, bought)
    return first + sorted(further, key=lambda line: line.take)


def _bought(
    entries: Iterable[JournalEntry], own: Mapping[str | None, int]
) -> defaultdict[str, dict[int, JournalEntry]]:
    """By the key of the line, its further takes that were sent, or may have been."""
    found = defaultdict[str, dict[int, JournalEntry]](dict)
    for entry in entries:
        line_key, take = split_key(entry.key)
        if take > 1 and entry.key not in own and state_of(entry) is not JobState.REJECTED:
            found[line_key][take] = entry
    return found


def _take_of(line: Line, take: int, bought: Mapping[int, JournalEntry]) -> Line:
    """A take of a line: with the request that it was bought with, else with the line's."""
    entry = bought.get(take)
    if entry is None:
        request = from_takes(line.request, lambda key: take_key(key, take))
    else:
        request = _request(entry, line.request)
    return attrs.evolve(line, request=request, key=take_key(line.key or "", take), take=take)


def _request(entry: JournalEntry, of_line: GenerationRequest) -> GenerationRequest:
    """The request of a take: with the takes that it was made from, and else the line's media.

    A journal does not hold those.
    """
    bought = request_of(entry)
    made_from, media = sources(bought), list(of_line.media_urls)
    places = [place for place, each in enumerate(media) if isinstance(each, JobMedium)]
    if len(places) == len(made_from):
        for place, medium in zip(places, made_from, strict=True):
            media[place] = medium
    return attrs.evolve(bought, media_urls=media)


def _check_films(
    first: Iterable[Line], further: Iterable[Line], bought: Mapping[str, Mapping[int, JournalEntry]]
) -> None:
    """Refuse to buy a take that the same take of another line was to be made from, and was not."""
    new = {line.key: line for line in further if line.take not in bought[_line_key(line)]}
    for line in first:
        for take, entry in bought.get(line.key or "", {}).items():
            made_from = [each.key for each in sources(request_of(entry))]
            for each in sources(line.request):
                needless = new.get(take_key(each.key, take))
                if needless is not None and needless.key not in made_from:
                    raise click.UsageError(
                        f"take {take} of line {line.number} was made from another take than take "
                        f"{take} of line {needless.number}, which would be bought, and nothing "
                        "made from it; nothing was sent. To make one more take of both: "
                        f"seedance reroll FOLDER {needless.number}"
                    )


def _line_key(take: Line) -> str:
    return split_key(take.key or "")[0]
