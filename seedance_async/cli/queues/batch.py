"""A batch with `--queue`: its lines are enqueued, and shown while workers make them."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import attrs
import click

from seedance_async import Event, JobEvent
from seedance_async._utils.plural import counted
from seedance_async.cli.buying.asking import agrees
from seedance_async.cli.buying.consent import Consent, Limit, may_buy
from seedance_async.cli.buying.forecast import show_forecast
from seedance_async.cli.buying.left_behind import may_leave
from seedance_async.cli.buying.prices import priced
from seedance_async.cli.connection import Connection
from seedance_async.cli.exit_codes import ExitCode
from seedance_async.cli.history import remember_batch
from seedance_async.cli.inputs import Line
from seedance_async.cli.queues.naming import task_files
from seedance_async.cli.queues.place import QueuePlace
from seedance_async.cli.queues.planned import Planned
from seedance_async.cli.queues.run import check_folder, run_queued
from seedance_async.cli.queues.session import QueuedSession
from seedance_async.cli.queues.steps import QueueSteps
from seedance_async.cli.queues.workers import new_worker
from seedance_async.cli.runs import destinations
from seedance_async.cli.runs.batch_run import BatchOptions
from seedance_async.cli.runs.file_names import NameTemplate
from seedance_async.cli.runs.journal_entries import KnownJobs
from seedance_async.cli.takes.keys import with_takes
from seedance_async.engines import Queue, Task

#: Lines that cannot be made elsewhere and are shown; keys in a command to copy.
_SHOWN, _SHOWN_KEYS = 100, 20


@attrs.frozen(kw_only=True)
class QueuedBatch:
    """What the user wants of a batch.

    Attributes:
        connection: to ask the server of its models and prices; nothing is submitted with it.
        place: the queue.
        run: the name of the run; by default that of the folder.
        source: the input's name.
        output: where the videos go, as far as this process knows: what workers are told, too.
        folder: for the results.
        name: what `--name` says.
        takes: of each line.
        media_key: see `SessionOptions`.
        leave_unmatched, dry_run, consent, as_json: as the options of `batch`.
        work: the options of this process's own worker; None if it is none.
    """

    connection: Connection
    place: QueuePlace
    run: str | None
    source: str
    output: Path | str
    folder: Path
    name: NameTemplate | None
    takes: int
    media_key: Callable[[str], str] | None
    leave_unmatched: bool
    dry_run: bool
    consent: Consent
    as_json: bool
    work: Mapping[str, Any] | None

    @property
    def run_name(self) -> str:
        """The name of the run."""
        return self.run or self.folder.resolve().name or "batch"

    async def start(self, lines: Sequence[Line]) -> ExitCode:
        """Enqueue the lines, and show them until each has its outcome."""
        known = KnownJobs(await self.place.entries(), self.media_key)
        named = {line.number for line in lines if line.key is not None}
        lines = with_takes(lines, self.takes, known.entries, self.media_key)
        if not self._can_travel(lines):
            return ExitCode.USAGE
        if self.dry_run and self.place.is_new:
            return await self._forecast(Planned(lines, known, {}), named)
        async with self.place.queue(media_key=self.media_key) as queue:
            enqueued = await queue.tasks(run=self.run_name)
            requests = [(line.key or "", line.request) for line in lines]
            changed = await queue.changed(requests, run=self.run_name)
            planned = Planned(lines, known, enqueued, changed)
            if self.dry_run:
                return await self._forecast(planned, named)
            if not (self.leave_unmatched or self._may_leave(planned, named)):
                return ExitCode.USAGE
            return await self._buy(queue, planned)

    def _may_leave(self, planned: Planned, named: Collection[int]) -> bool:
        """Whether jobs and tasks of the run may be left that no line of the input is."""
        screen = self.connection.screen
        if planned.strangers:
            tasks = counted(len(planned.strangers), "task")
            keys = shlex.join(["--run", self.run_name, *planned.strangers[:_SHOWN_KEYS]])
            screen.say(
                f"{tasks} of the run {self.run_name} will be made, too, and no line of "
                f"{self.source} matches. To cancel: seedance queue cancel {self.place.option} "
                f"{keys}",
                whole=True,
            )
            otherwise = "--leave-unmatched leaves them there, and --run NAME makes another run."
            if not agrees(f"Leave {tasks} in the run?", otherwise, screen):
                return False
        return may_leave(planned.left_behind(named), screen)

    async def _forecast(self, planned: Planned, named: Collection[int]) -> ExitCode:
        """Show what would be bought, and buy nothing."""
        purchase = await priced(self.connection, planned.new, self.place.journal)
        task_files(self.name, planned.lines, planned.known, lambda name: False)
        show_forecast(
            purchase,
            planned.plan,
            planned.left_behind(named),
            self.place.shown,
            self.connection.screen,
            as_json=self.as_json,
        )
        return ExitCode.SUCCESS

    async def _buy(self, queue: Queue, planned: Planned) -> ExitCode:
        purchase = await priced(self.connection, planned.new, self.place.journal)
        destination = await destinations.opened(self.output)
        files = task_files(self.name, planned.lines, planned.known, destination.is_taken)
        check_folder(self.folder, planned.known, self.place)
        limit = Limit.of((self.work or {}).get("max_credits"), planned.known.entries)
        if not may_buy(purchase, self.consent, self.connection.screen, limit):
            return ExitCode.USAGE
        self._remember()
        await self._enqueue(queue, planned, files)
        async with AsyncExitStack() as stack:
            if self.work is not None:
                await stack.enter_async_context(self._worker(self.work))
            return await self._shown(queue, planned, destination)

    def _can_travel(self, lines: Sequence[Line]) -> bool:
        """Whether all lines can be made on other machines; those that cannot are shown."""
        problems: list[str] = []
        for line in lines:
            try:
                Task(line.key or "", line.request).dump()
            except ValueError as error:
                problems.append(f"{self.source}, {line.where}: {error}")
        for text in problems[:_SHOWN]:
            self.connection.screen.say(text)
        if problems:
            bad = counted(len(problems), "bad line")
            self.connection.screen.say(f"{bad}; nothing was enqueued", style="red")
        return not problems

    def _remember(self) -> None:
        """Keep in mind where the record of this batch is."""
        destinations.remember_bucket(self.folder, self.output)
        if isinstance(self.place.journal, Path):
            remember_batch(self.place.journal, self.connection.screen)

    async def _enqueue(self, queue: Queue, planned: Planned, files: Sequence[str]) -> None:
        named = zip(planned.lines, files, strict=True)
        tasks = [Task(line.key or "", line.request, file=file) for line, file in named]
        try:
            await queue.enqueue(
                [task for task in tasks if task.key not in planned.kept], run=self.run_name
            )
        except ValueError as error:
            raise click.UsageError(f"{error}. Nothing was enqueued.") from None
        except asyncio.CancelledError:
            self._say_what_is_left()
            raise
        again = [key for key in planned.again if key not in planned.changed or key in planned.kept]
        if again:
            await queue.again(run=self.run_name, keys=again)
        new = sum(task.key not in planned.enqueued for task in tasks)
        replaced = len(planned.changed) - len(planned.kept)
        more = f", {replaced:,} replaced" if replaced else ""
        more += f", {len(again):,} handed out again" if again else ""
        self.connection.screen.say(
            f"{counted(len(tasks), 'task')} in the run {self.run_name} of {self.place.shown}: "
            f"{new:,} new{more}."
        )

    def _say_what_is_left(self) -> None:
        """The enqueuing was broken off, and workers make what is in the queue by now."""
        run, place = shlex.join(["--run", self.run_name]), self.place.option
        self.connection.screen.say(
            f"Some of the tasks may be in the run {self.run_name} by now, and will be made. The "
            f"same command enqueues the rest. To cancel them: seedance queue cancel {place} {run}",
            whole=True,
        )

    def _worker(self, options: Mapping[str, Any]) -> Any:
        screen = self.connection.screen

        def hear(event: Event) -> None:
            if not isinstance(event, JobEvent):  # of jobs, the journal tells
                screen.hear(event)

        return new_worker(self.connection, self.place, self.output, **options, on_event=hear)

    async def _shown(
        self, queue: Queue, planned: Planned, destination: destinations.Destination
    ) -> ExitCode:
        screen, place = self.connection.screen, self.place

        def on_idle() -> None:
            screen.tell(
                "No worker takes the tasks. Start one, here or on another machine: seedance worker "
                f"{place.option} -o {self.output}; or add --work to this command",
                "yellow",
            )

        session = QueuedSession(
            place,
            queue,
            self.run_name,
            base_url=self.connection.offline_session().client.base_url,
            on_event=screen.hear,
            on_idle=on_idle,
        )
        sent = planned.known.sent_before(planned.lines)
        session.sent_before = {entry.key: entry for entry in sent.values()}
        options = BatchOptions(
            self.folder,
            source=self.source,
            as_json=self.as_json,
            media_key=self.media_key,
            destination=destination,
        )
        journal = Path(str(place.journal))
        steps = QueueSteps(self.folder, journal, option=place.option, run=self.run_name)
        report = await run_queued(session, planned.lines, options, steps, planned.known, screen)
        return report.code()
