"""Plays the demo: the emulator and a batch in one process, for a person to watch."""

from __future__ import annotations

import random
import shlex
from pathlib import Path

from seedance_async import Backoff, Job, SeedanceSession
from seedance_async._utils.plural import counted
from seedance_async.cli.console import Screen
from seedance_async.cli.demo.scenario import MISHAPS, SCENES
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.inputs import Line
from seedance_async.cli.runs.batch_run import BatchOptions, run_batch
from seedance_async.cli.runs.report import Report
from seedance_async.emulator import Emulator, EmulatorOptions

#: A job's 90 virtual seconds take about two.
SPEED = 45
_GPUS = 4
_IN_FLIGHT = 8


async def play(folder: Path, seed: int, screen: Screen, *, speed: float = SPEED) -> ExitCode:
    """Run the scenes with the mishaps; success if the SDK kept its promises."""
    options = EmulatorOptions(seed=seed, speed=speed, gpus=_GPUS)
    async with Emulator(options) as emulator:
        for mishap in MISHAPS:
            mishap.arrange(emulator)
        lines = [Line(number, scene.request(emulator)) for number, scene in enumerate(SCENES, 1)]
        screen.say(
            f"{counted(len(lines), 'job')} for the emulator at {emulator.url}, without your key or "
            f"your credits. {counted(len(MISHAPS), 'thing')} will go wrong."
        )
        session = _session(emulator, seed, screen)
        kept = BatchOptions(folder, overwrite=True, name=_name)
        report = await run_batch(session, lines, kept, screen)
        if report.was_interrupted:
            return ExitCode.INTERRUPTED
        went_well = _show_mishaps(emulator, report, screen)
        went_well &= _check_ledger(emulator, report, screen)
    screen.say(f"Videos: {shlex.quote(str(folder))}", style="bold")
    return ExitCode.SUCCESS if went_well else ExitCode.FAILED


def _session(emulator: Emulator, seed: int, screen: Screen) -> SeedanceSession:
    return SeedanceSession(
        api_key=emulator.api_key,
        base_url=emulator.url,
        max_in_flight=_IN_FLIGHT,
        poll=Backoff(initial=0.3, multiplier=1.3, maximum=1.0),
        poll_rate=50.0,
        on_event=screen.hear,
        rng=random.Random(seed),  # noqa: S311 - reproducible, not secret
    )


def _name(line: Line, job: Job) -> str:
    """Without the request id, so that the next demo replaces the videos."""
    assert job.request is not None
    return f"{line.number:02d}-{job.request.mode}.mp4"


def _show_mishaps(emulator: Emulator, report: Report, screen: Screen) -> bool:
    outcomes = {outcome.line: outcome for outcome in report.outcomes if outcome.line is not None}
    screen.say("What went wrong, and what the SDK did about it:", style="bold")
    all_well = True
    for mishap in MISHAPS:
        text, as_expected = mishap.describe(emulator, outcomes)
        screen.say(f"  {text}", style=None if as_expected else "red")
        all_well &= as_expected
    return all_well


def _check_ledger(emulator: Emulator, report: Report, screen: Screen) -> bool:
    """Compare what the SDK counted with the emulator's ledger, which knows every charge."""
    ledger = emulator.ledger
    reported = sum(outcome.credits_charged or 0 for outcome in report.outcomes)
    unread = sum(entry.credits for entry in ledger.charged if not entry.answered)
    twice = len(ledger.duplicates())
    agree = reported + unread == ledger.credits_charged and not twice
    screen.say(
        f"The emulator's ledger: {counted(len(ledger), 'submit')} received, {len(ledger.charged)} "
        f"charged, charged twice: {twice}. {counted(ledger.credits_charged, 'credit')} charged: "
        f"{reported} in answers that the SDK read, {unread} in the lost answer. "
        + ("The SDK agrees." if agree else "The SDK does NOT agree."),
        style="green" if agree else "red",
    )
    return agree
