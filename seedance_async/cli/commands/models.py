"""`seedance models`: the models on offer."""

from __future__ import annotations

import click

from seedance_async import ModelInfo
from seedance_async.cli import options
from seedance_async.cli.connection import Connection, api_command
from seedance_async.cli.exit_codes import ExitCode


@click.command()
@options.as_json
@api_command
async def models(connection: Connection, as_json: bool) -> ExitCode:
    """List the models on offer; with --json as the server describes them."""
    async with connection.session() as session:
        found = await session.client.models()
    for model in found:
        if as_json:
            connection.screen.record(model.raw)
        else:
            connection.screen.answer(_row(model))
    return ExitCode.SUCCESS


def _row(model: ModelInfo) -> str:
    durations = ", ".join(map(str, model.durations))
    cells = [
        model.id or "(no id)",
        f"{durations} s" if durations else "",
        " ".join(model.aspect_ratios),
        " ".join(model.resolutions),
    ]
    return "  ".join(cell for cell in cells if cell)
