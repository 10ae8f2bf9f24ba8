"""`seedance emulator` and `seedance demo`: the commands that need the emulator's extra.

The emulator is imported only once one of them is called.
"""

from __future__ import annotations

import asyncio
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seedance_async import ConfigurationError
from seedance_async.cli.connection import COUNT, POSITIVE
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode, MissingExtraError

if TYPE_CHECKING:
    from seedance_async.emulator import Emulator, Fault


@contextmanager
def _extra_needed() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("seedance_async"):
            raise
        raise MissingExtraError(
            f"{missing.name} is not installed; "
            'pip install "seedance-async[emulator]" installs what the emulator needs'
        ) from None


def _split_fault(text: str) -> tuple[str, str, float]:
    """`OPERATION:KIND=PROBABILITY`; the kind may have settings, as `502 accepted=true`."""
    operation, colon, rest = text.partition(":")
    kind, equals, probability = rest.rpartition("=")
    try:
        if colon and equals:
            return operation.strip(), kind.strip(), float(probability)
    except ValueError:
        pass
    raise click.UsageError(f"--fault {text}: write OPERATION:KIND=PROBABILITY, as poll:502=0.1")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0: a free one."
)
@click.option(
    "--speed",
    type=POSITIVE,
    default=20.0,
    show_default=True,
    help="Virtual seconds in a second: a job of 90 takes some 5. 1 is as slow as the real service.",
)
@click.option("--gpus", type=COUNT, default=8, show_default=True, help="Jobs that run at once.")
@click.option("--seed", type=int, default=0, show_default=True, help="Ids, running times, faults.")
@click.option(
    "--media",
    type=click.Choice(["rendered", "shared"]),
    default="rendered",
    show_default=True,
    help="A video for each job, or a small one for all.",
)
@click.option(
    "--fault", "faults", multiple=True, metavar="OPERATION:KIND=PROBABILITY", help="Repeatable."
)
@click.option(
    "--ledger",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file of JSON lines that every submit is appended to.",
)
@click.option(
    "--api-key",
    default="sd2_live_emulator",
    show_default=True,
    help="The key that is accepted. It is printed: it must not be a real one.",
)
def emulator(faults: Sequence[str], ledger: Path | None, **settings: Any) -> ExitCode:
    """Serve a local Seedance API until Ctrl-C, to develop against without spending credits."""
    with _extra_needed():
        from seedance_async.emulator import EmulatorOptions, FaultRates, run
    rates = _rates(faults)
    served: list[Emulator] = []

    def ready(emulator: Emulator) -> None:
        served.append(emulator)
        print(f"export SEEDANCE_BASE_URL={shlex.quote(emulator.url)}")
        print(f"export SEEDANCE_API_KEY={shlex.quote(emulator.api_key)}", flush=True)

    try:
        for operation, of_operation in rates.items():
            FaultRates(operation, of_operation)  # names an operation that there is not
            settings[f"{operation}_faults"] = of_operation
        options = EmulatorOptions(**settings, ledger_path=ledger)
        run(options, ready)
    except OSError as error:
        raise ConfigurationError(f"the emulator cannot start: {error}") from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    Screen().say(_books(served[0]) if served else "the emulator was stopped before it listened")
    return ExitCode.SUCCESS


def _rates(faults: Sequence[str]) -> dict[str, dict[str | Fault, float]]:
    rates: dict[str, dict[str | Fault, float]] = defaultdict(dict)
    for text in faults:
        operation, kind, probability = _split_fault(text)
        rates[operation][kind] = probability
    return dict(rates)


def _books(emulator: Emulator) -> str:
    told = emulator.stats()
    return (
        f"{told['submits']} submits received, {told['charged']} charged; "
        f"prompts charged twice: {len(told['duplicates'])}"
    )


@click.command()
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-out"),
    show_default=True,
    help="The folder for the videos and results.jsonl.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Ids, running times, jitter.")
def demo(folder: Path, seed: int) -> ExitCode:
    """Watch 24 jobs go through a local emulator, six of them with something going wrong."""
    with _extra_needed():
        from seedance_async.cli.demo.demo import play
    screen = Screen()
    with screen.logging(False):
        return asyncio.run(play(folder, seed, screen))
