"""`seedance models`: the models on offer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from seedance_async import ModelInfo
from seedance_async._utils.number_runs import number_runs
from seedance_async.cli import options
from seedance_async.cli.connection import Connection, api_command
from seedance_async.cli.exit_codes import ExitCode


@click.command()
@options.as_json
@api_command
async def models(connection: Connection, as_json: bool) -> ExitCode:
    """List the models on offer, with lengths, ratios, resolutions and prices as far as the server
    tells them; with --json as it describes them.

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
    cells = [
        model.id or "(no id)",
        f"{durations} s" if durations else "",
        " ".join(model.aspect_ratios),
        " ".join(model.resolutions),
        _prices(model),
    ]
    return "  ".join(cell for cell in cells if cell)


def _prices(model: ModelInfo) -> str:
    """What the server says of prices, whatever its form."""
    pricing = model.pricing
    if not isinstance(pricing, Mapping):
        return "" if pricing is None else json.dumps(pricing, ensure_ascii=False)
    unit = pricing.get("unit")
    listed = ", ".join(
        f"{name}: {_as_text(value)}"
        for name, value in pricing.items()
        if name != "unit" or not isinstance(unit, str)
    )
    return f"{listed} {unit.replace('_', ' ')}".strip() if isinstance(unit, str) else listed


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _ranges(numbers: Sequence[int]) -> str:
    """Whole numbers, with those that follow each other as a range."""
    return ", ".join(
        f"{run[0]}\N{EN DASH}{run[-1]}" if len(run) > 2 else ", ".join(map(str, run))
        for run in number_runs(numbers)
    )
