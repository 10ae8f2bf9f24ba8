"""The lines of an input, all of them good; or all that is wrong with it, shown."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from seedance_async import SeedanceSession, Violation
from seedance_async._utils.plural import counted
from seedance_async.api.models import ModelInfo
from seedance_async.cli import options
from seedance_async.cli.capability_check import NO_STRICT, by_the_servers_list
from seedance_async.cli.chains import NEEDS_UPLOADER, in_order
from seedance_async.cli.console import Screen
from seedance_async.cli.inputs import Line, Problem, read_lines
from seedance_async.cli.reading.formats import InputFormat
from seedance_async.cli.reading.source import Input

#: How many bad lines are shown one by one.
_SHOWN_PROBLEMS = 100


async def good_lines(
    file: Input,
    form: str | None,
    names: dict[str, str],
    defaults: dict[str, Any],
    session: SeedanceSession,
    screen: Screen,
    rules: dict[str, Any],
) -> list[Line] | None:
    """The requests of the file; None, after showing what is wrong, if any line is bad.

    Args:
        file: the input.
        form: its format; by default what its name and its content show.
        names: what names in the file stand for, if not what they say.
        defaults: fields for the lines that do not give them.
        session: learns what the server tells of its models.
        screen: where the problems are shown.
        rules: further arguments of `read_lines`.
    """
    read = partial(
        read_lines,
        file.data,
        InputFormat(form) if form else None,
        name=file.name,
        names=names,
        defaults={name: value for name, value in defaults.items() if value is not None},
        allow_local=session.client.allow_local,
        folder=file.folder,
        **rules,
    )

    def check(
        models: Sequence[ModelInfo],
    ) -> tuple[tuple[list[Line], list[Problem]], list[Violation]]:
        found = read(models=models)
        return found, [broken for problem in found[1] for broken in problem.violations]

    lines, problems = await by_the_servers_list(session, check, screen)
    if not problems:
        lines, problems = in_order(lines)
    for problem in problems[:_SHOWN_PROBLEMS]:
        screen.say(f"{file.name}, {problem}")
    more = len(problems) - _SHOWN_PROBLEMS
    if more > 0:
        screen.say(f"… and {counted(more, 'more bad line')}")
    if any(broken.rule in NEEDS_UPLOADER for problem in problems for broken in problem.violations):
        screen.say(options.NO_BUCKET)
    if any(broken.of_model for problem in problems for broken in problem.violations):
        screen.say(NO_STRICT)
    if problems:
        screen.say(f"{counted(len(problems), 'bad line')}; nothing was sent", style="red")
        return None
    if not lines:
        raise click.UsageError(f"{file.name} has no requests")
    return lines
