"""`--fit`: pictures from this machine are fitted to their line's aspect ratio before all else.

A line is known by the picture and by how it is fitted, so the same command finds its jobs again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeAlias

import attrs
import click

from seedance_async import GenerationRequest, InvalidRequestError
from seedance_async._utils.plural import counted
from seedance_async.cli.console import Screen
from seedance_async.cli.inputs import Line, Problem

Fit: TypeAlias = Literal["crop", "pad"]

#: How many bad lines are shown one by one.
_SHOWN = 100

fit_option = click.option(
    "--fit",
    type=click.Choice(["crop", "pad"]),
    help="Fit pictures from this machine to the aspect ratio before they are uploaded: cut off what"
    " is too much, or add black bars. Needs the extra media.",
)


async def fitted_request(request: GenerationRequest, fit: Fit | None) -> GenerationRequest:
    """A request with its pictures fitted.

    Raises:
        ConfigurationError: the extra `media` is not installed.
        InvalidRequestError: a picture cannot be fitted.
    """
    if fit is None:
        return request
    from seedance_async.media.fitting import fit_media

    return await asyncio.to_thread(fit_media, request, fit)


async def fitted_lines(lines: Sequence[Line], screen: Screen) -> list[Line] | None:
    """Lines with their pictures fitted as each asks for; None, after showing why, if one cannot be.

    Raises:
        ConfigurationError: the extra `media` is not installed.
    """
    if all(line.fit is None for line in lines):
        return list(lines)
    from seedance_async.media.fitting import fit_media

    problems: dict[int, Problem] = {}
    start = asyncio.get_running_loop().run_in_executor
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            work = (start(pool, _fitted, line, fit_media, problems) for line in lines)
            fitted = await asyncio.gather(*work)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    if not problems:
        return fitted
    for number in sorted(problems)[:_SHOWN]:
        screen.say(str(problems[number]))
    if len(problems) > _SHOWN:
        screen.say(f"… and {counted(len(problems) - _SHOWN, 'more bad line')}")
    screen.say(f"{counted(len(problems), 'bad line')}; nothing was sent", style="red")
    return None


def _fitted(
    line: Line,
    fit_media: Callable[[GenerationRequest, Fit], GenerationRequest],
    problems: dict[int, Problem],
) -> Line:
    if line.fit is None:
        return line
    try:
        return attrs.evolve(line, request=fit_media(line.request, line.fit))
    except InvalidRequestError as error:
        problems[line.number] = Problem(line.where or f"line {line.number}", error.violations)
        return line
