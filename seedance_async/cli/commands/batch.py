"""`seedance batch`: a file of prompts in, a folder of videos and results out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import click

from seedance_async import without_query
from seedance_async.cli import options
from seedance_async.cli.buying.consent import Consent, Limit, consent, may_buy
from seedance_async.cli.buying.forecast import show_forecast
from seedance_async.cli.buying.left_behind import LeftBehind, may_leave
from seedance_async.cli.buying.prices import priced
from seedance_async.cli.capability_check import sent_before
from seedance_async.cli.chains import check_chains
from seedance_async.cli.connection import Connection, api_command
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.fitting import Fit, fit_option, fitted_lines
from seedance_async.cli.good_lines import good_lines
from seedance_async.cli.history import remember_batch
from seedance_async.cli.live.event_log import with_events
from seedance_async.cli.queues.batch import QueuedBatch
from seedance_async.cli.queues.options import check_options, check_without_queue
from seedance_async.cli.queues.place import QueuePlace, queue_option, run_option
from seedance_async.cli.reading import option
from seedance_async.cli.reading.formats import InputFormat
from seedance_async.cli.reading.source import Input, read_input
from seedance_async.cli.runs import destinations
from seedance_async.cli.runs.batch_run import BatchOptions, run_batch, video_name
from seedance_async.cli.runs.file_names import NameTemplate, chosen_names, name_option
from seedance_async.cli.runs.gallery_page import with_gallery
from seedance_async.cli.runs.journal_entries import KnownJobs
from seedance_async.cli.runs.next_steps import JOURNAL
from seedance_async.cli.runs.reworded import difference, reworded, reworded_text
from seedance_async.cli.takes.keys import takes_option, with_takes
from seedance_async.session.estimate import plan


@click.command()
@click.argument("file", callback=read_input)
@destinations.output_option(
    "Folder for the videos, results.jsonl and the journal; or a bucket for the videos, such as"
    " s3://BUCKET/PREFIX/, gs://… or az://…, which needs the extra storage.",
    options.DEFAULT_FOLDER,
)
@destinations.state_option
@name_option
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Journal file, from which the same command resumes.  [default: run.db in the folder]",
)
@click.option("--no-journal", is_flag=True, help="Keep no journal: the run cannot be resumed.")
@options.max_credits
@options.resubmit_uncertain
@click.option(
    "--format",
    "form",
    type=click.Choice([str(each) for each in InputFormat]),
    help="Format of FILE.  [default: what its name and its content show]",
)
@option.names
@takes_option
@options.upload
@fit_option
@options.tags
@options.max_in_flight
@options.max_downloads
@options.timeout
@options.queue_timeout
@click.option(
    "--signed-urls",
    "media_key",
    is_flag=True,
    callback=lambda _context, _option, given: without_query if given else None,
    help="Media URLs are signed anew for each run: know them by what precedes their query.",
)
@click.option(
    "--leave-unmatched",
    is_flag=True,
    help="Buy new lines although jobs of earlier runs that no line matches may be running, or have"
    " been bought for the same prompts with other options, or before the lines had a key.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check FILE, show what would be bought and its cost, submit nothing.",
)
@click.option(
    "--overwrite", is_flag=True, help="Start over: move the files of an earlier run aside."
)
@queue_option("Have the workers of this queue make the jobs, and show them:")
@run_option
@click.option("--work", is_flag=True, help="With --queue: this process is a worker, too.")
@consent
@options.as_json
@options.strict
@options.request_fields
@api_command
@with_gallery
@with_events
async def batch(
    connection: Connection,
    file: Input,
    output: Path | str,
    state: Path | None,
    name: NameTemplate | None,
    form: str | None,
    names: dict[str, str],
    takes: int,
    upload: str | None,
    fit: Fit | None,
    tags: bool,
    max_in_flight: int,
    max_downloads: int,
    timeout: float,
    queue_timeout: float,
    journal: Path | None,
    no_journal: bool,
    max_credits: int | None,
    resubmit_uncertain: bool,
    media_key: Callable[[str], str] | None,
    leave_unmatched: bool,
    dry_run: bool,
    overwrite: bool,
    place: QueuePlace | None,
    run: str | None,
    work: bool,
    consent: Consent,
    as_json: bool,
    strict: bool,
    **defaults: Any,
) -> ExitCode:
    """Make one video for each line of FILE; `-` reads standard input.

    Every line is checked before anything is sent: if one is bad, nothing is submitted. Run the
    same command again to resume: it waits for jobs that are running and submits only lines that
    were never sent.

    --takes makes several videos of each line. With a higher number, the same command buys only the
    takes that are missing.

    --model, --aspect-ratio, --duration, --resolution and --extra apply to lines that do not set
    them. Columns such as extra.seed give fields that the API does not document.

    Media may be files: a path in FILE begins at the folder of FILE. See --upload and --fit.

    A line may begin where another one ends: {"from": "KEY", "frame": "last"} among its media is the
    last frame of the line with that key, and without "frame" its whole video. It is submitted once
    that one has succeeded.

    Messages and results number lines as FILE does; the first row under the header of a table is 1.

    With --queue, other processes make the jobs, here or on other machines: see `seedance worker`.
    The command enqueues the lines, shows them and writes the same results; Ctrl-C ends the showing.

    \b
    Examples:
      seedance batch prompts.txt -o videos
      seedance batch shots.csv -o videos --takes 4 --max-credits 5000
      seedance batch shots.csv --aspect-ratio 9:16 --fit crop --upload s3://BUCKET/inputs
      seedance batch shots.csv --map "Shot text=prompt" --dry-run
      seedance batch shots.csv --name "{line:03}-{slug}-{take}" --takes 2
      seedance batch shots.csv -o s3://BUCKET/films/
      seedance batch shots.csv --events events.ndjson
      seedance batch shots.csv -o videos --gallery
      seedance batch shots.csv --queue sqlite:///fleet.db --work
    """
    if place is None:
        check_without_queue(click.get_current_context())
    else:
        check_options(click.get_current_context(), works=work)
    if no_journal and (journal is not None or resubmit_uncertain):
        raise click.UsageError(
            "--no-journal cannot be combined with --journal or --resubmit-uncertain"
        )
    if tags and not isinstance(output, Path):
        raise click.UsageError("--tags is for videos in a folder, not in a bucket")
    folder = destinations.state_folder(output, state)
    of_worker = {
        "max_in_flight": max_in_flight,
        "max_downloads": max_downloads,
        "timeout": timeout,
        "queue_timeout": queue_timeout,
        "max_credits": max_credits,
    }
    record = None if no_journal else journal or folder / JOURNAL
    screen = connection.screen
    if place is not None:
        rules = {
            "uploads": True,
            "strict": strict,
            "was_sent": sent_before(place.journal, media_key),
        }
        offline = connection.offline_session()
        found = await good_lines(file, form, names, defaults, offline, screen, rules)
        if found is None:
            return ExitCode.USAGE
        queued = QueuedBatch(
            connection=connection,
            place=place,
            run=run,
            source=file.name,
            output=output,
            folder=folder,
            name=name,
            takes=takes,
            media_key=media_key,
            leave_unmatched=leave_unmatched,
            dry_run=dry_run,
            consent=consent,
            as_json=as_json,
            work=of_worker if work else None,
        )
        return await queued.start(found)
    uploader = connection.uploader(upload)
    session = (
        connection.offline_session(uploader)
        if dry_run
        else connection.session(
            uploader=uploader,
            strict=strict,
            max_in_flight=max_in_flight,
            max_downloads=max_downloads,
            job_timeout=timeout,
            queue_timeout=queue_timeout,
            journal=record,
            max_credits=max_credits,
            resubmit_uncertain=resubmit_uncertain,
            media_key=media_key,
        )
    )
    rules = {
        "uploads": uploader is not None,
        "strict": strict,
        "was_sent": sent_before(None if overwrite else record, media_key),
    }
    lines = await good_lines(file, form, names, defaults, session, screen, rules)
    if lines is not None and fit is not None:
        lines = await fitted_lines([attrs.evolve(line, fit=fit) for line in lines], screen)
    if lines is None:
        return ExitCode.USAGE
    check_chains(lines, has_journal=record is not None)
    known = KnownJobs.read(None if overwrite else record, media_key)
    named = {line.number for line in lines if line.key is not None}
    lines = with_takes(lines, takes, known.entries, media_key)
    planned = plan(
        known.entries,
        [line.item for line in lines],
        resubmit_uncertain=resubmit_uncertain,
        media_key=media_key,
    )
    left = LeftBehind.of(lines, known, named)
    if not (dry_run or leave_unmatched or may_leave(left, screen)):
        return ExitCode.USAGE
    new = [lines[place] for place in planned.new]
    purchase = await priced(connection, new, None if overwrite else record)
    if dry_run:
        chosen_names(name, lines, known)
        again = {line.place for line in new}
        requests, bought = {line.place: line.request for line in lines}, reworded(known, lines)
        kept = {at[0]: difference(bought[at], requests[at]) for at in bought if at not in again}
        if text := reworded_text(kept):
            screen.say(text, style="yellow")
        show_forecast(purchase, planned, left, record, screen, as_json=as_json)
        return ExitCode.SUCCESS
    destination = await destinations.opened(output)
    video_names = chosen_names(name, lines, known, destination.is_taken)
    if not may_buy(purchase, consent, screen, Limit.of(max_credits, known.entries)):
        return ExitCode.USAGE
    destinations.remember_bucket(folder, output)
    if record is not None:
        remember_batch(record, screen)
    report = await run_batch(
        session,
        lines,
        BatchOptions(
            folder,
            journal=record,
            source=file.name,
            overwrite=overwrite,
            as_json=as_json,
            max_downloads=max_downloads,
            media_key=media_key,
            name=video_names or video_name,
            destination=destination,
            tags=tags,
        ),
        screen,
    )
    return report.code()
