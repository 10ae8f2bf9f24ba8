"""Lines of an input whose media are the videos of other lines: `{"from": "shot-3"}`.

They are put in an order in which each comes after those that it is made from, and a line with a key
of its own gets one that also says what it is made from: where an earlier shot is another job, so is
every shot that depends on it, though its own line is as it was.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import attrs
import click

from seedance_async import GenerationRequest, JobMedium, Violation
from seedance_async.api.job_media import NO_UPLOADER_FOR_FRAME
from seedance_async.api.local_media import NO_UPLOADER
from seedance_async.cli.inputs import Line, Problem

#: What is wrong with media that --upload would help.
NEEDS_UPLOADER = (NO_UPLOADER, NO_UPLOADER_FOR_FRAME)

#: Keys of a circle that are shown.
_SHOWN = 6


def in_order(lines: Sequence[Line]) -> tuple[list[Line], list[Problem]]:
    """The lines so that each comes after those whose videos are its media.

    First come all lines that need no other, then those that need only these, and so on: as many
    as can be made at once are. The order within each of these groups is the file's.

    Returns:
        The lines, and the problems of those that name no other line, or themselves in the end.
    """
    sources = {line.number: _named(line.request) for line in lines}
    if not any(sources.values()):
        return list(lines), []
    keys = {line.key for line in lines if line.key is not None}
    problems = [
        Problem(line.where, tuple(unknown))
        for line in lines
        if (unknown := list(_unknown(line.request, keys)))
    ]
    ordered, left = _sorted(lines, {number: found & keys for number, found in sources.items()})
    return ordered, problems + list(_circles(left))


def joined_key(key: str, media: Sequence[Any]) -> str:
    """The key of a job that is made from other jobs: its own, with what says which these are."""
    sources = [each.as_data() for each in media if isinstance(each, JobMedium)]
    if not sources:
        return key
    text = json.dumps(sources, sort_keys=True)
    return f"{key}@{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def named_by(lines: Sequence[Line]) -> frozenset[str]:
    """The keys of the jobs that lines are made from."""
    return frozenset().union(*(_named(line.request) for line in lines))


def check_chains(lines: Sequence[Line], *, has_journal: bool) -> None:
    """Refuse, before anything is sent, what could not be brought to its end.

    Raises:
        UsageError: there are such lines, and no journal.
        ConfigurationError: frames are needed, and the extra `media` is not installed.
    """
    media = [each for line in lines for each in line.request.media_urls]
    chained = [each for each in media if isinstance(each, JobMedium)]
    if chained and not has_journal:
        raise click.UsageError(
            "FILE has lines that are made from others, which need the journal: leave --no-journal "
            "away"
        )
    if any(each.frame for each in chained):
        import seedance_async.media.frames  # noqa: F401


def _named(request: GenerationRequest) -> frozenset[str]:
    return frozenset(each.key for each in request.media_urls if isinstance(each, JobMedium))


def _unknown(request: GenerationRequest, keys: Collection[str]) -> Iterator[Violation]:
    for index, each in enumerate(request.media_urls):
        if isinstance(each, JobMedium) and each.key not in keys:
            near = difflib.get_close_matches(each.key, keys, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            rule = f"must be the key of another line{hint}"
            yield Violation(f"media_urls[{index}].from", each.key, rule)


def _sorted(
    lines: Sequence[Line], sources: Mapping[int, Collection[str]]
) -> tuple[list[Line], list[Line]]:
    """The lines in their order, with their keys; and those that no order has a place for."""
    dependants, waiting = defaultdict[str, list[Line]](list), dict[int, int]()
    for line in lines:
        waiting[line.number] = len(sources[line.number])
        for key in sources[line.number]:
            dependants[key].append(line)
    ordered, keys = list[Line](), dict[str, str]()
    group = [line for line in lines if not waiting[line.number]]
    while group:
        group = sorted(group, key=lambda line: line.number)
        renamed = [_renamed(line, keys) for line in group]
        ordered += renamed
        keys |= {
            old.key: new.key for old, new in zip(group, renamed, strict=True) if old.key and new.key
        }
        made = [each for line in group if line.key for each in dependants[line.key]]
        group = []
        for line in made:
            waiting[line.number] -= 1
            if not waiting[line.number]:
                group.append(line)
    return ordered, [line for line in lines if waiting[line.number]]


def _renamed(line: Line, keys: Mapping[str, str]) -> Line:
    """A line that names the jobs of other lines, and itself, by the keys that they have."""
    if not _named(line.request):
        return line
    media = [
        attrs.evolve(each, key=keys.get(each.key, each.key))
        if isinstance(each, JobMedium)
        else each
        for each in line.request.media_urls
    ]
    key = None if line.key is None else joined_key(line.key, media)
    return attrs.evolve(line, request=attrs.evolve(line.request, media_urls=media), key=key)


def _circles(left: Sequence[Line]) -> Iterator[Problem]:
    """One problem for each circle among lines that wait for each other."""
    by_key = {line.key: line for line in left if line.key is not None}
    seen: set[int] = set()
    for start in left:
        path, line = list[Line](), start
        while line.number not in seen:
            seen.add(line.number)
            path.append(line)
            line = next(by_key[key] for key in sorted(_named(line.request)) if key in by_key)
        if line in path:
            circle = path[path.index(line) :]
            first = min(range(len(circle)), key=lambda index: circle[index].number)
            circle = circle[first:] + circle[:first]
            names = [repr(each.key) for each in circle[:_SHOWN]]
            names += ["…"] if len(circle) > _SHOWN else []
            rule = f"must not be made from itself: {' ← '.join([*names, names[0]])}"
            key = next(each for each in sorted(_named(circle[0].request)) if each in by_key)
            yield Problem(circle[0].where, (Violation("media_urls", key, rule),))
