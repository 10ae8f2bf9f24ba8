"""`seedance reroll`: one more take of some lines of a batch, in its folder."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from seedance_async import JournalError, SeedanceSession, Violation
from seedance_async._utils.plural import counted
from seedance_async.api.models import ModelInfo
from seedance_async.cli import options
from seedance_async.cli.buying.asking import agrees
from seedance_async.cli.buying.consent import Consent, Limit, consent, may_buy
from seedance_async.cli.buying.prices import priced
from seedance_async.cli.buying.purchase import new_lines
from seedance_async.cli.capability_check import NO_STRICT, by_the_servers_list, sent_before
from seedance_async.cli.completions import folder_and_lines
from seedance_async.cli.connection import Connection, api_command
from seedance_async.cli.console import Screen
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.fitting import fitted_lines
from seedance_async.cli.history import remember_batch
from seedance_async.cli.inputs import Line, Problem
from seedance_async.cli.live.event_log import with_events
from seedance_async.cli.runs import destinations
from seedance_async.cli.runs.batch_run import BatchOptions, run_batch, video_name
from seedance_async.cli.runs.file_names import NameTemplate, chosen_names, name_option
from seedance_async.cli.runs.journal_entries import KnownJobs
from seedance_async.cli.runs.next_steps import JOURNAL
from seedance_async.cli.runs.report import ranges
from seedance_async.cli.takes.folder_lines import (
    chosen_lines,
    folder_journal,
    read_folder_lines,
    split_folder,
    with_dependants,
)
from seedance_async.cli.takes.replaced_files import with_replaced_files
from seedance_async.cli.takes.rerolls import Reroll, Rerolls
from seedance_async.journal import read_entries

#: How many takes are named before they are bought.
_NAMED = 10


@click.command()
@click.argument(
    "words", nargs=-1, required=True, metavar="[DIR] LINE…", shell_complete=folder_and_lines
)
@click.option("--prompt", help="Another prompt for these takes.  [default: that of each line]")
@click.option(
    "--take",
    "number",
    type=click.IntRange(min=2),
    help="Buy the take with this number, and no other: one that was bought is not bought again.",
)
@click.option(
    "--replaced-files",
    is_flag=True,
    help="Buy takes with files that have been replaced since their line was bought.",
)
@name_option
@options.tags
@folder_journal
@options.max_credits
@options.resubmit_uncertain
@options.upload
@options.max_in_flight
@options.max_downloads
@options.timeout
@options.queue_timeout
@consent
@options.as_json
@options.strict
@options.request_fields
@api_command
@with_events
async def reroll(
    connection: Connection,
    words: Sequence[str],
    number: int | None,
    replaced_files: bool,
    name: NameTemplate | None,
    tags: bool,
    journal: Path | None,
    max_credits: int | None,
    resubmit_uncertain: bool,
    upload: str | None,
    max_in_flight: int,
    max_downloads: int,
    timeout: float,
    queue_timeout: float,
    consent: Consent,
    as_json: bool,
    strict: bool,
    **fields: Any,
) -> ExitCode:
    """Make one more video of lines of a batch, into its folder, journal and results.

    DIR is the folder of the batch, by default `videos`; a LINE is its number in the batch's file,
    or a range such as 7-9. --prompt and the other options of a request apply to these takes alone.
    Lines that are made from them get one more take, too.

    The takes are numbered and on record before anything is sent. If the command is interrupted or
    killed, the same words resume it, and buy nothing twice. Once all of its takes have ended and
    are saved, the same words buy one more take of each line. With --take 2 they never do.

    \b
    Examples:
      seedance reroll videos 3 7-9
      seedance reroll videos 3 --prompt "A river in winter" --take 2
    """
    folder, words = split_folder(words)
    record = journal or folder / JOURNAL
    if not words:
        raise click.UsageError(f"name the lines of {folder} to reroll, such as 3 7-9")
    bucket = destinations.bucket_of(folder)
    if tags and bucket is not None:
        raise click.UsageError("--tags is for videos in a folder, not in a bucket")
    lines = read_folder_lines(folder)
    chosen = chosen_lines(lines, words)
    changes = {name: value for name, value in fields.items() if value is not None}

    def planned() -> tuple[Rerolls, Reroll]:
        rerolls = Rerolls.read(folder, lines, read_entries(record))
        if number is not None:
            return rerolls, rerolls.numbered(chosen, changes, number)
        return rerolls, rerolls.plan(chosen, changes)

    def record_first() -> None:
        rerolls, again = planned()
        if again != plan:
            raise JournalError("it has changed since it was read; try again", path=str(record))
        if number is None:
            rerolls.begin(plan)

    rerolls, plan = planned()
    takes = plan.lines(with_dependants(chosen, lines))
    uploader = connection.uploader(upload)
    session = connection.session(
        uploader=uploader,
        strict=strict,
        max_in_flight=max_in_flight,
        max_downloads=max_downloads,
        job_timeout=timeout,
        queue_timeout=queue_timeout,
        journal=record,
        max_credits=max_credits,
        resubmit_uncertain=resubmit_uncertain,
    )
    rules = {"uploads": uploader is not None, "strict": strict}
    was_sent = sent_before(record, None)
    if not await _are_good(takes, session, connection.screen, rules, was_sent):
        return ExitCode.USAGE
    fitted = await fitted_lines(takes, connection.screen)
    if fitted is None:
        return ExitCode.USAGE
    takes = fitted
    destination = await destinations.opened(bucket or folder)
    names = chosen_names(name, takes, KnownJobs(rerolls.entries, None), destination.is_taken)
    entries = rerolls.entries
    new = new_lines(takes, entries, resubmit_uncertain=resubmit_uncertain)
    replaced = await asyncio.to_thread(with_replaced_files, new, entries)
    if not (replaced_files or _may_replace(replaced, connection.screen)):
        return ExitCode.USAGE
    limit = Limit.of(max_credits, entries)
    if not may_buy(await priced(connection, new, record), consent, connection.screen, limit):
        return ExitCode.USAGE
    _announce(takes, connection.screen, is_resumed=plan in rerolls.begun)
    remember_batch(record, connection.screen)
    report = await run_batch(
        session,
        takes,
        BatchOptions(
            folder,
            journal=record,
            source=str(folder),
            as_json=as_json,
            max_downloads=max_downloads,
            adds=record_first,
            name=names or video_name,
            tags=tags,
            destination=destination,
        ),
        connection.screen,
    )
    if number is None:
        _finish(rerolls, plan, record, connection.screen)
    return report.code()


async def _are_good(
    lines: Sequence[Line],
    session: SeedanceSession,
    screen: Screen,
    rules: dict[str, Any],
    was_sent: Callable[[Line], bool],
) -> bool:
    """Whether the requests keep the rules, or are resumed; what they break is shown."""

    def check(models: Sequence[ModelInfo]) -> tuple[list[Problem], list[Violation]]:
        found = list[Problem]()
        for line in lines:
            broken = line.request.violations(
                allow_local=session.client.allow_local, models=models, **rules
            )
            if broken and not (all(each.of_model for each in broken) and was_sent(line)):
                found.append(Problem(f"line {line.number}", tuple(broken)))
        return found, [each for problem in found for each in problem.violations]

    problems = await by_the_servers_list(session, check, screen)
    for problem in problems:
        screen.say(str(problem))
    if any(broken.of_model for problem in problems for broken in problem.violations):
        screen.say(NO_STRICT)
    if problems:
        screen.say("Nothing was sent.", style="red")
    return not problems


def _may_replace(replaced: Sequence[Line], screen: Screen) -> bool:
    """Whether to buy takes with other files than their lines had; asks, if there are any."""
    if not replaced:
        return True
    numbers = ", ".join(ranges(line.number for line in replaced))
    screen.say(
        f"The files of these lines are others than those that they were bought with: {numbers}",
        style="yellow",
    )
    return agrees(
        f"Buy {counted(len(replaced), 'take')} with the files as they are now?",
        "--replaced-files buys them nevertheless.",
        screen,
    )


def _announce(takes: Sequence[Line], screen: Screen, *, is_resumed: bool) -> None:
    """The numbers of the takes, before anything is sent."""
    named = ", ".join(f"take {line.take} of line {line.number}" for line in takes[:_NAMED])
    more = f" and {len(takes) - _NAMED:,} more" if len(takes) > _NAMED else ""
    begins = "Resuming a reroll that was not finished: " if is_resumed else "Rerolling: "
    screen.say(f"{begins}{named}{more}.")


def _finish(rerolls: Rerolls, plan: Reroll, record: Path, screen: Screen) -> None:
    """Say what the same words would do now."""
    entries = read_entries(record)
    if not plan.is_done(entries):
        again = plan.command(rerolls.folder)
        screen.say(f"The reroll is not finished. To resume it: {again}", whole=True)
        return
    if plan.bought(entries):
        screen.say("The reroll is finished: the same command would buy one more take.")
    rerolls.finish(plan)  # last: killed before the user was told, it buys nothing more
