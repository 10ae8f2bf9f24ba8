"""`seedance emulator`: a local Seedance API for other processes.

The emulator is imported only when the command is called.
"""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seedance_async import ConfigurationError
from seedance_async._utils.plural import counted
from seedance_async.cli import options
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.extras import emulator_required

if TYPE_CHECKING:
    from seedance_async.emulator import Emulator, Fault


class _ListsFaults(click.Command):
    """A command whose help ends with the kinds of faults, if the emulator is installed."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what can go wrong with each operation."""
        super().format_epilog(ctx, formatter)
        try:
            from seedance_async.emulator import KINDS
        except ImportError:
            return
        kinds = defaultdict[str, list[str]](list)
        for name in KINDS:
            kinds[_operations(name)].append(name)
        with formatter.section("Faults, by operation (--list-faults says what each does)"):
            for operations, names in sorted(kinds.items(), key=lambda item: -len(item[1])):
                formatter.write_text(f"{operations}: {', '.join(names)}")


@click.command(cls=_ListsFaults)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option(
    "--speed",
    type=options.POSITIVE,
    default=20.0,
    show_default=True,
    help="How much faster than the real service, where a job takes about 90 seconds.",
)
@click.option(
    "--gpus", type=options.COUNT, default=8, show_default=True, help="Jobs processed at once."
)
@options.seed
@click.option(
    "--media",
    type=click.Choice(["rendered", "shared"]),
    default="rendered",
    show_default=True,
    help="Render a video for each job, or serve one small video for all.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="OPERATION:KIND=PROBABILITY",
    help="Make something go wrong, such as poll:502=0.1 or job:failed=0.2. Repeatable. The faults"
    " of each operation are listed below.",
)
@click.option("--list-faults", is_flag=True, help="List the kinds of faults, and exit.")
@click.option(
    "--ledger",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file to append every submit to, as JSON lines.",
)
@click.option(
    "--model-card",
    "model_cards",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The models to offer instead of the documented ones, in JSON as `seedance models --json`"
    " prints it. Their limits are enforced; fields that a card names in `extra` are taken.",
)
@click.option(
    "--api-key",
    default="sd2_live_emulator",
    show_default=True,
    help="The key to accept. It is printed, so it must not be a real one.",
)
def emulator(
    faults: Sequence[str],
    list_faults: bool,
    ledger: Path | None,
    model_cards: Sequence[Path],
    **settings: Any,
) -> ExitCode:
    """Serve a local Seedance API until Ctrl-C, to develop against without spending credits.

    \b
    Examples:
      seedance emulator --speed 1
      seedance emulator --fault poll:502=0.1
      seedance emulator --model-card tomorrow.json
    """
    with emulator_required():
        from seedance_async.emulator import EmulatorOptions, FaultRates, run
    if list_faults:
        return _list_faults(Screen())
    served: list[Emulator] = []

    def ready(emulator: Emulator) -> None:
        served.append(emulator)
        print(f"export SEEDANCE_BASE_URL={shlex.quote(emulator.url)}")
        print(f"export SEEDANCE_API_KEY={shlex.quote(emulator.api_key)}", flush=True)

    try:
        for operation, rates in _rates(faults).items():
            FaultRates(operation, rates)  # refuses unknown operations and bad probabilities
            settings[f"{operation}_faults"] = rates
        models = [card for path in model_cards for card in _read_cards(path)]
        run(EmulatorOptions(**settings, models=models or None, ledger_path=ledger), ready)
    except OSError as error:
        raise ConfigurationError(f"the emulator cannot start: {error}") from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    Screen().say(_totals(served[0]) if served else "the emulator was stopped before it listened")
    return ExitCode.SUCCESS


def _read_cards(path: Path) -> list[Mapping[str, Any]]:
    """The model cards in a file: one JSON document, or one a line."""
    from seedance_async.emulator import cards_in

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise click.UsageError(f"--model-card {path} cannot be read: {reason}") from None
    try:
        documents = _documents(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--model-card {path}: not JSON: {error}") from None
    try:
        return [card for document in documents for card in cards_in(document)]
    except ValueError as error:
        raise click.UsageError(f"--model-card {path}: {error}") from None


def _documents(text: str) -> list[Any]:
    """The JSON documents of a text: the whole of it, or one a line."""
    try:
        return [json.loads(text)]
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return [json.loads(line) for line in lines]


def _list_faults(screen: Screen) -> ExitCode:
    """Every kind of fault: what it happens to, and what it does."""
    from seedance_async.emulator import KINDS

    rows = [("KIND", "OPERATIONS", "EFFECT")]
    rows += [(name, _operations(name), kind.meaning) for name, kind in KINDS.items()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for name, operations, meaning in rows:
        screen.answer(f"{name:{widths[0]}}  {operations:{widths[1]}}  {meaning}")
    return ExitCode.SUCCESS


def _operations(kind: str) -> str:
    """What a kind of fault can happen to."""
    from seedance_async.emulator import KINDS

    return ", ".join(sorted(KINDS[kind].operations))


def _rates(faults: Sequence[str]) -> dict[str, dict[str | Fault, float]]:
    rates: dict[str, dict[str | Fault, float]] = defaultdict(dict)
    for text in faults:
        operation, kind, probability = _split_fault(text)
        rates[operation][kind] = probability
    return dict(rates)


def _split_fault(text: str) -> tuple[str, str, float]:
    """`OPERATION:KIND=PROBABILITY`; the kind may have settings, as in `502 accepted=true`."""
    from seedance_async.emulator import KINDS

    operation, _, rest = (part.strip() for part in text.partition(":"))
    kind, _, probability = (part.strip() for part in rest.rpartition("="))
    try:
        number = float(probability)
    except ValueError:
        number = None
    if not kind or number is None:
        raise click.UsageError(
            f"--fault {text}: write OPERATION:KIND=PROBABILITY, such as poll:502=0.1; "
            "--list-faults lists the kinds"
        )
    name = kind.split()[0]
    if name not in KINDS:
        raise click.UsageError(f"--fault {text}: no such fault: {name!r}; see --list-faults")
    known = {each for every in KINDS.values() for each in every.operations}
    if operation in known and operation not in KINDS[name].operations:
        raise click.UsageError(
            f"--fault {text}: {name} does not happen to {operation}, but to {_operations(name)}; "
            f"write {sorted(KINDS[name].operations)[0]}:{rest}"
        )
    return operation, kind, number


def _totals(emulator: Emulator) -> str:
    stats = emulator.stats()
    return (
        f"{counted(stats['submits'], 'submit')} received, {stats['charged']:,} charged; "
        f"prompts charged twice: {len(stats['duplicates'])}"
    )
