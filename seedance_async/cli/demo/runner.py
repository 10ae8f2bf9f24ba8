"""`seedance demo`: the emulator and a batch in one process, for a person to watch."""

from __future__ import annotations

import random
import shlex
from pathlib import Path

from seedance_async import Backoff, Job, SeedanceSession
from seedance_async.cli.console import Screen
from seedance_async.cli.demo.scenes import MISHAPS, SCENES
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.keeping import Options, run_lines
from seedance_async.cli.runs.report import Report
from seedance_async.emulator import Emulator, EmulatorOptions

#: A job's 90 virtual seconds last about two.
_SPEED = 45
_GPUS = 4
_IN_FLIGHT = 8


async def play(folder: Path, seed: int, screen: Screen) -> ExitCode:
    """Run the scenes with the mishaps; success if all went as the SDK promises."""
    options = EmulatorOptions(seed=seed, speed=_SPEED, gpus=_GPUS)
    async with Emulator(options) as emulator:
        for mishap in MISHAPS:
            mishap.arrange(emulator)
        lines = [Line(number, scene.request(emulator)) for number, scene in enumerate(SCENES, 1)]
        screen.say(
            f"{len(lines)} jobs for the emulator at {emulator.url}: no key, no credits of yours. "
            f"{len(MISHAPS)} things are made to go wrong on the way."
        )
        session = _session(emulator, seed)
        keeping = Options(folder, overwrite=True, name=_name)
        report = await run_lines(session, lines, keeping, screen)
        if report.was_interrupted:
            return ExitCode.INTERRUPTED
        went_well = _tell_mishaps(emulator, report, screen)
        went_well &= _tell_books(emulator, report, screen)
    screen.say(f"Videos: {shlex.quote(str(folder))}", style="bold")
    return ExitCode.SUCCESS if went_well else ExitCode.FAILED


def _session(emulator: Emulator, seed: int) -> SeedanceSession:
    return SeedanceSession(
        api_key=emulator.api_key,
        base_url=emulator.url,
        max_in_flight=_IN_FLIGHT,
        poll=Backoff(initial=0.3, multiplier=1.3, maximum=1.0),
        poll_rate=50.0,
        rng=random.Random(seed),  # noqa: S311 - to be repeated, not to be secret
    )


def _name(number: int, job: Job) -> str:
    """Without the request id: a demo that is run again replaces its own videos."""
    assert job.request is not None
    return f"{number:02d}-{job.request.mode}.mp4"


def _tell_mishaps(emulator: Emulator, report: Report, screen: Screen) -> bool:
    outcomes = {outcome.line: outcome for outcome in report.outcomes if outcome.line is not None}
    screen.say("What went wrong, and what was done about it:", style="bold")
    all_well = True
    for mishap in MISHAPS:
        told, as_expected = mishap.told(emulator, outcomes)
        screen.say(f"  {told}", style=None if as_expected else "red")
        all_well &= as_expected
    return all_well


def _tell_books(emulator: Emulator, report: Report, screen: Screen) -> bool:
    """Compare what the SDK counted with the emulator's ledger: the truth about money."""
    ledger = emulator.ledger
    counted = sum(outcome.credits_charged or 0 for outcome in report.outcomes)
    unread = sum(entry.credits for entry in ledger.charged if not entry.answered)
    twice = len(ledger.duplicates())
    agree = counted + unread == ledger.credits_charged and not twice
    screen.say(
        f"The emulator's ledger: {len(ledger)} submits received, {len(ledger.charged)} charged, "
        f"charged twice: {twice}. {ledger.credits_charged} credits: {counted} that the SDK was "
        f"told of and {unread} behind the lost answer. " + ("Agreed." if agree else "NOT agreed."),
        style="green" if agree else "red",
    )
    return agree
