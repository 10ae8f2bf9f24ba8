"""A run as the user sees it while it goes on: its progress, and what Ctrl-C does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from seedance_async import JournalError
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode, code_of
from seedance_async.cli.live.display import shown
from seedance_async.cli.runs.report import Report
from seedance_async.cli.runs.run import Run, Running


async def run_in_foreground(
    run: Run, report: Report, screen: Screen, *, tells: bool = True
) -> None:
    """Run to the end, showing the progress; what goes wrong beside the jobs is in the report.

    Args:
        run: the run.
        report: the run's.
        screen: where to show it.
        tells: whether the outcome of each job is told as it happens.
    """

    def explain_stop(running: Running) -> None:
        screen.say("Interrupted: nothing more is submitted.", style="yellow")
        if running.ids or running.submits:
            screen.say(f"Waiting for {running}. Press Ctrl-C again to leave.")
        suggest_resume(running)

    def explain_leave(running: Running) -> None:
        go_on = "it goes on" if len(running.ids) + running.submits == 1 else "they go on"
        screen.say(f"Leaving {running}: {go_on} at the server.", style="yellow")
        suggest_resume(running)

    def suggest_resume(running: Running) -> None:
        if running.ids or run.next_steps.journal is not None:
            screen.say(run.next_steps.resume(running.ids), whole=True)

    showing = shown(run, screen, names_lines=report.has_lines, tells=tells)
    await complete(run, report, screen, showing, on_stop=explain_stop, on_leave=explain_leave)


async def complete(
    run: Run,
    report: Report,
    screen: Screen,
    showing: AbstractAsyncContextManager[object],
    *,
    on_stop: Callable[[Running], None],
    on_leave: Callable[[Running], None],
) -> None:
    """Run to the end while it is shown.

    Args:
        run, report, screen: see `run_in_foreground`.
        showing: shows it.
        on_stop, on_leave: see `Run.complete`.
    """
    try:
        async with showing:
            await run.complete(on_stop=on_stop, on_leave=on_leave)
    except JournalError as error:
        if not run.has_begun:
            raise
        screen.say(f"seedance: {error}", style="red")
        report.also(code_of(error))
    finally:
        if run.interrupts.stopping:
            report.also(ExitCode.INTERRUPTED)
