"""The user's code in a universe: a program over the public API, made of the steps of its plan.

It counts how many videos it asks for. Trying again what was certainly not accepted, or what it
broke off, is asking for the same; trying again what was uncertain, or has failed, is asking for
another.
"""

import asyncio
import json
import random
from collections import Counter
from contextlib import aclosing

import attrs

from seedance_async import (
    Backoff,
    GenerationRequest,
    Job,
    JobState,
    JobTimeoutError,
    JournalError,
    RetryPolicy,
    SeedanceError,
    SeedanceSession,
    SubmitUncertainError,
    WebhookReceiver,
)
from tests.universes.answers import BASE_URL, HOOKS, KEY
from tests.universes.breaking_off import NOTHING, WRAPS, SiblingError
from tests.universes.transport import UniverseTransport

#: Seconds for which a handler of the program waits for a job.
PATIENCE = 900.0

QUICK = RetryPolicy(timeout=30.0, throttle_timeout=90.0, max_retry_after=60.0)


class _LeaveError(Exception):
    """Why the program leaves its session early."""


@attrs.frozen
class Outcome:
    """How one call ended: a value, or an error; `broken_off` if the program itself broke it off."""

    value: object = None
    error: BaseException | None = None
    broken_off: bool = False


class Program:
    """One run of the program.

    Attributes:
        asked: videos that it asked for, by prompt and key.
        receiver: where callbacks arrive.
    """

    def __init__(self, world, life):
        self.world, self.plan, self.life = world, world.plan, life
        self.asked = Counter()
        self.rejected = []  # prompts that it was told are not charged, and how many charges were
        self.receiver, self._loose = None, []
        self.process = self.session = None
        self.entered = self.left_whole = self.left_in_peace = False

    async def main(self, process):
        """What the process runs."""
        self.process = process
        try:
            async with self._session() as self.session:
                self.entered = process.session_open = True
                try:
                    await self._steps()
                    self._leave()
                    self.left_in_peace = self.life.leave == "wait"
                finally:
                    process.session_open = self.left_in_peace
        except (SeedanceError, _LeaveError, TimeoutError) as error:
            self.see(error)
        finally:
            process.session_open = False
            await asyncio.gather(*self._loose, return_exceptions=True)
        self._check_left()

    def _session(self):
        plan, world = self.plan, self.world
        if plan.webhooks:
            self.receiver = WebhookReceiver(HOOKS)
        return SeedanceSession(
            api_key=KEY,
            base_url=BASE_URL,
            transport=UniverseTransport(self.process),
            rng=random.Random(world.rng.random()),
            journal=world.disk.journal() if plan.journal else None,
            max_in_flight=plan.max_in_flight,
            max_credits=plan.limit,
            max_uncertain_in_a_row=plan.max_uncertain,
            resubmit_uncertain=self.life.resubmit,
            webhooks=self.receiver,
            on_event=self.see if plan.events else None,
            retry=QUICK if plan.quick else RetryPolicy(),
            poll=Backoff(initial=2.0, maximum=60.0),
        )

    def _leave(self):
        if self.life.leave == "error":
            raise _LeaveError
        if self.life.leave == "cancel":
            asyncio.current_task().cancel()

    def _check_left(self):
        """A session that was left has no job in flight any more."""
        self.left_whole = True
        shown = repr(self.session)
        if (
            self.process.alive
            and self.entered
            and "<TaskRegistry" in shown
            and " 0 in flight" not in shown
        ):
            self.world.problems.append(f"a session was left with jobs in flight: {shown}")

    # --- steps ------------------------------------------------------------------------------

    async def _steps(self):
        steps = [getattr(self, f"_{op.kind}")(op) for op in self.life.ops]
        if self.life.loose:
            self._loose = [asyncio.create_task(step) for step in steps]
            await asyncio.sleep(self.life.ops[0].after if self.life.ops else 0.0)
        elif self.life.together:
            async with asyncio.TaskGroup() as tasks:
                for step in steps:
                    tasks.create_task(step)
        else:
            try:
                for step in steps:
                    await step
            finally:
                for step in steps:
                    step.close()

    async def _submit(self, op):
        item = self._item(op)
        self._ask(item)
        key = item.key
        for attempt in range(op.retries + 1):
            wrap = op.wrap if attempt == 0 or op.take > 2 else None
            outcome = await self._call(wrap, op.after, self._submitted(item, key))
            if isinstance(outcome.value, Job):
                if outcome.value.state is JobState.REJECTED:
                    self._note_rejected(item)
                await self._wait(outcome.value)
                return
            error = outcome.error
            if isinstance(error, ValueError) and key is None:
                self.process.problems.append(f"a submit without a key raised {error!r}")
            if isinstance(error, (ValueError, RuntimeError)):
                return  # the key is in use, or the session is closed
            if isinstance(error, SubmitUncertainError):
                if op.again != "everything":
                    return
                if key is None or not self.plan.journal:  # without one, the key may be free again
                    self._ask(item)
            elif isinstance(error, SeedanceError) and getattr(error, "request_id", None) is None:
                self._note_rejected(item)
            await asyncio.sleep(op.after)

    async def _submitted(self, item, key):
        job = await self.session.submit(self._request(item), key=key)
        healthy = self.plan.journal and not self.life.disk_full and self.process.alive
        real = self.world.server.find(job.request_id) is not None
        if healthy and real and not self.world.disk.holds(job.request_id):
            self.process.problems.append(f"{job!r} was returned before it was recorded")
        return job

    async def _generate(self, op):
        item = self._item(op)
        self._ask(item, keyless=True)
        began = self.world.clock
        work = self.session.generate(self._request(item))
        outcome = await self._call(op.wrap, op.after, work)
        if outcome.broken_off and outcome.error is not None:
            self._check_named(outcome, [item], began)
        if outcome.broken_off and op.again == "everything":
            await self._call(None, 0.0, self.session.generate(self._request(item)))

    async def _run(self, op):
        items = [self.plan.items[number] for number in op.items]
        self._ask(*items)
        began = self.world.clock
        outcome = await self._call(op.wrap, op.after, self.session.run(map(self._pair, items)))
        if outcome.value is not None:
            self._check_whole(outcome.value, items, began)
        if outcome.broken_off:
            if outcome.error is not None:
                self._check_named(outcome, items, began)
            if op.again == "everything":
                await self._call(None, 0.0, self.session.run(map(self._pair, items)))
        for _ in range(op.retries):
            if outcome.value is None:
                return
            outcome = await self._run_again(op, outcome.value, items)

    async def _run_again(self, op, batch, items):
        """Run what failed once more."""
        again = [job for job in batch.failures if self._may_ask_again(job, op)]
        if not again:
            return Outcome()
        await asyncio.sleep(op.after)
        by_key = op.again == "key"
        keys = {item.prompt: item.key for item in items}
        pairs = []
        for job in again:
            key = keys.get(job.request.prompt)
            if by_key and key is None and self.plan.journal and job.key.endswith(("-1", "-2")):
                key = job.key  # the key that the session gave it
            pairs.append(job.request if key is None else (key, job.request))
        return await self._call(None, 0.0, self.session.run(pairs))

    def _may_ask_again(self, job, op):
        if job.request is None:
            return False
        if job.state is JobState.REJECTED:
            return True
        if op.again != "everything":
            return False
        self.asked[job.request.prompt] += 1
        return True

    async def _stream(self, op):
        items = [self.plan.items[number] for number in op.items]
        self._ask(*items)

        seen = []

        async def look(most):
            async with aclosing(self.session.as_completed(map(self._pair, items))) as jobs:
                async for job in jobs:
                    self.see(job)
                    seen.append(job)
                    if len(seen) >= most:
                        break

        await self._call(op.wrap, op.after, look(op.take))
        if op.again == "everything" and len(seen) < len(items):
            given = Counter(job.request for job in seen if job.state is not JobState.REJECTED)
            for item in items:
                if given[self._request(item)] > 0:
                    given[self._request(item)] -= 1
                    self._ask(item)
            await self._call(None, 0.0, look(len(seen) + len(items)))

    async def _attach(self, op):
        """Attach a job that is known from anywhere: a run before, or the vendor's dashboard."""
        reference = self._reference(op)
        outcome = await self._call(None, 0.0, self.session.attach(reference))
        if isinstance(outcome.value, Job):
            await self._wait(outcome.value)

    def _reference(self, op):
        """An id, or a token; one with the key of another job must be refused."""
        prompt, ledger = self._item(op).prompt, self.world.server.ledger
        charges = [each for each in ledger if each.prompt == prompt]
        named = charges[0].request_id if charges else "req_nobody"
        rows = self.world.disk.rows() if self.plan.journal else []
        keys = [row.key for row in rows if row.prompt == prompt]
        if op.again == "everything" and ledger:
            named = self.world.rng.choice(ledger).request_id
            keys = [row.key for row in rows if row.request_id not in (None, named)]
        if op.again == "request" or not keys or named == "req_nobody":
            return named
        return json.dumps({"v": 1, "request_id": named, "key": keys[0]})

    async def _cancel(self, op):
        item = self._item(op)
        self._ask(item)
        outcome = await self._call(None, 0.0, self._submitted(item, item.key))
        if isinstance(outcome.value, Job):
            await asyncio.sleep(op.after)
            await self._call(op.wrap, op.after, outcome.value.cancel())

    async def _wait(self, job):
        outcome = await self._call(None, 0.0, job.wait(PATIENCE))
        if isinstance(outcome.error, JobTimeoutError):
            return
        self.see(job)

    # --- what it asks for -------------------------------------------------------------------

    def _item(self, op):
        return self.plan.items[op.items[0]]

    def _request(self, item):
        return GenerationRequest(item.prompt, duration=item.duration, aspect_ratio=item.ratio)

    def _pair(self, item):
        request = self._request(item)
        return request if item.key is None else (item.key, request)

    def _ask(self, *items, keyless=False):
        for item in items:
            if item.key is None or keyless:
                self.asked[item.prompt] += 1
            else:
                again = not self.plan.journal  # without one, a key is free once its job has ended
                self.asked[item.prompt, item.key] = again * self.asked[item.prompt, item.key] + 1

    def _note_rejected(self, item):
        if self.life.disk_full is not None or not self.process.alive:
            return  # nobody can tell what became of an earlier submit
        if self.asked[item.prompt] + self.asked[item.prompt, item.key] == 1:
            self.rejected.append((item.prompt, len(self.world.server.ledger)))

    # --- what it does and sees --------------------------------------------------------------

    async def _call(self, wrap, after, work):
        """Await a call of the API, and break it off as planned; its outcome."""
        try:
            value = await (work if wrap is None else WRAPS[wrap](work, after))
        except asyncio.CancelledError as error:
            if asyncio.current_task().cancelling():
                self.see(error)
                raise
            return self._broken_off(error)
        except (SiblingError, TimeoutError) as error:
            if isinstance(error, SeedanceError):
                return self._failed(error)
            return self._broken_off(error)
        except Exception as error:
            return self._failed(error)
        if value is NOTHING:
            return Outcome(broken_off=True)
        self.see(value)
        return Outcome(value)

    def _broken_off(self, error):
        self.see(error)
        return Outcome(error=error, broken_off=True)

    def _failed(self, error):
        self.see(error)
        if not self.process.alive:
            return Outcome(error=error)
        others = self.plan.shared and self._may_be_of_another(error)
        if isinstance(error, JournalError) and self._journal_is_fine() and not others:
            self.process.problems.append(f"the journal failed, though its disk is fine: {error!r}")
        expected = (SeedanceError, RuntimeError) if self.process.exiting else SeedanceError
        if not isinstance(error, expected) and not _is_misuse(error) and not self.process.closing:
            self.process.problems.append(f"the API raised {error!r}")
        return Outcome(error=error)

    def _may_be_of_another(self, error):
        """Whether another session was given the id, or has attached one to the key meanwhile."""
        shown = str(error)
        return "is that of the entry" in shown or "belongs to job" in shown

    def _journal_is_fine(self):
        others = [program.life.second for program in self.world.programs if program.life.second]
        locked = bool(others) and not self.plan.shared
        process = self.process
        ending = process.closing or process.exiting or self.life.loose
        return not (locked or self.life.disk_full or ending)

    def see(self, thing):
        """The program has this in its hands."""
        if self.process.alive:
            self.process.seen.append(thing)

    def _check_named(self, outcome, items, began):
        """What was told of a job before its wait was broken off is in the exception."""
        shown = {job.request_id for error in chain(outcome.error) for job in _jobs(error)}
        grouped = isinstance(outcome.error, SiblingError)  # a task group drops the cancellations
        at_once = self.life.together or self.life.loose
        if not self.process.alive or at_once or grouped:
            return
        for charge in self._told(items, began, before=self.world.clock - 1.0):
            if charge.request_id not in shown:
                problem = f"{charge.request_id} is not in {outcome.error!r}"
                self.world.problems.append(f"a wait was broken off, and {problem}")

    def _check_whole(self, batch, items, began):
        """A batch has an outcome for each request, and all that was accepted for it."""
        if not self.process.alive:
            return
        if len(batch) != len(items) and batch.stopped_by is None:
            problem = f"{len(batch)} outcomes of {len(items)} requests are in its result"
            self.world.problems.append(f"a batch has ended, and {problem}")
        shown = {job.request_id for job in batch}
        steps = Counter(number for op in self.life.ops for number in op.items)
        prompts = Counter()
        for number, count in steps.items():
            prompts[self.plan.items[number].prompt] += count
        for charge in self._told(items, began, before=self.world.clock):
            if prompts[charge.prompt] == 1 and charge.request_id not in shown:
                problem = f"{charge.request_id} is not in its result"
                self.world.problems.append(f"a batch has ended, and {problem}")

    def _told(self, items, began, *, before):
        """What was accepted for these items, asked for once each, and told to this process."""
        prompts, asked = {item.prompt for item in items}, Counter()
        for name, count in self.asked.items():
            asked[_prompt(name)] += count
        for charge in self.world.server.ledger:
            ours = charge.process is self.process and charge.prompt in prompts
            told_at = max(charge.told_at, self.process.stopped_until)
            if ours and asked[charge.prompt] == 1 and began < charge.at and told_at < before:
                yield charge


def chain(error):
    """An exception, and all that led to it or are in it."""
    found, left = [], [error]
    while left:
        each = left.pop()
        if each is None or each in found:
            continue
        found.append(each)
        left += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]
    return found


def _jobs(error):
    return getattr(error, "jobs", ())


def _prompt(name):
    return name[0] if isinstance(name, tuple) else name


def _is_misuse(error):
    """An error that tells of a mistake of the caller: a key in use, a closed session."""
    if isinstance(error, ValueError):
        return "belongs to" in str(error) or "has the key" in str(error)
    return isinstance(error, RuntimeError) and "session is" in str(error)
