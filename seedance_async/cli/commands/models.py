"""`seedance models`: the models on offer."""

from __future__ import annotations

from collections.abc import Sequence

import click

from seedance_async import ModelInfo
from seedance_async.cli import options
from seedance_async.cli.connection import Connection, api_command
from seedance_async.cli.exit_codes import ExitCode


@click.command()
@options.as_json
@api_command
async def models(connection: Connection, as_json: bool) -> ExitCode:
    """List the models on offer; with --json as the server describes them.

    \b
    Example:
      seedance models
    """
    async with connection.session() as session:
        found = await session.client.models()
    for model in found:
        if as_json:
            connection.screen.record(model.raw)
        else:
            connection.screen.answer(_row(model))
    return ExitCode.SUCCESS


def _row(model: ModelInfo) -> str:
    durations = _ranges(model.durations)
    pricing = model.pricing if isinstance(model.pricing, dict) else {}
    cells = [
        model.id or "(no id)",
        f"{durations} s" if durations else "",
        " ".join(model.aspect_ratios),
        " ".join(model.resolutions),
        ", ".join(f"{name} {value}" for name, value in pricing.items()),
    ]
    return "  ".join(cell for cell in cells if cell)


def _ranges(numbers: Sequence[int]) -> str:
    """Whole numbers in words: 4 to 15, or 5, 10."""
    found = sorted(set(numbers))
    if len(found) > 2 and found[-1] - found[0] == len(found) - 1:
        return f"{found[0]} to {found[-1]}"
    return ", ".join(map(str, found))
