"""What must hold after a universe, whatever happened in it: the ledger against all that is known.

Each check yields the violations that it finds, in words; the first word of each names its kind.
"""

import logging
import math
from collections import Counter

from seedance_async import Job, JobState
from seedance_async.journal.owner import DOUBT_SECONDS
from tests.universes.answers import KEY
from tests.universes.program import chain

#: Seconds after an answer in which its acceptance must have reached the disk.
SETTLED = 1.0


def judge(world):
    """All violations of a universe, most telling first."""
    found = [f"{_kind_of(text)}: {text}" for text in world.problems]
    for process in world.processes:
        found += [f"broken: {process}: {text}" for text in process.problems]
        if process.ended_by is not None and not isinstance(process.ended_by, SystemExit):
            found.append(f"broken: {process} ended by {process.ended_by!r}")
    evidence = _Evidence(world)
    for check in (
        _paid_twice,
        _sent_at_once,
        _lost,
        _not_logged,
        _not_recorded,
        _over_the_limit,
        _rejected,
    ):
        found += check(world, evidence)
    for check in (
        _untold,
        _rules,
        _not_held,
        _falsely_uncertain,
        _end_not_recorded,
        _not_waited_for,
        _ends,
    ):
        found += check(world, evidence)
    found += _left_unnamed(world, evidence)
    found += _key_shown(world, evidence)
    return found


def _kind_of(problem):
    kinds = {"spins": "hang", "hang": "hang", "never happen": "hang", "cut off": "cut off"}
    kinds |= {"told to wait": "impolite", "in flight": "leak", "broken off": "unnamed"}
    kinds |= {"at once": "too many", "in its result": "missing"}
    return next((kind for words, kind in kinds.items() if words in problem), "broken")


class _Evidence:
    """What is known after a universe: on the disk, in the logs, in the hands of the programs."""

    def __init__(self, world):
        self.rows = world.disk.rows() if world.plan.journal else []
        self.attempts = world.disk.attempts() if world.plan.journal else []
        self.lines = world.lines
        self.log = "\n".join(line.text for line in world.lines)
        survivors = [process for process in world.processes if process.killed_at == math.inf]
        self.seen = [thing for process in survivors for thing in process.seen]
        self.jobs = [job for thing in self.seen for job in _jobs_in(thing)]
        self.texts = [text for thing in self.seen for text in _texts_of(thing)]
        self.all_seen = "\n".join(self.texts)
        self.has_journal = world.plan.journal
        self.recorded = {each.request_id for each in self.attempts}
        self.priced = {each.request_id for each in self.attempts if each.credits is not None}
        self.errors = "\n".join(line.text for line in self.lines if line.level >= logging.ERROR)

    def knows(self, request_id):
        """Whether this id can be found."""
        return request_id in self.recorded or request_id in self.log or request_id in self.all_seen

    def told_uncertain(self, prompt):
        """Whether somebody was told that a submit of this prompt is uncertain."""
        return any(
            "may have been accepted" in text and prompt in text
            for text in (self.errors, self.all_seen)
        )


def _paid_twice(world, _):
    """Nothing is charged more often than a run asked for it, but where that was chosen."""
    charged = Counter(charge.prompt for charge in world.server.ledger)
    for prompts in _groups(world):
        times, allowed = sum(charged[each] for each in prompts), _asked_for(world, prompts)
        if times > allowed:
            names = " or ".join(map(repr, prompts))
            yield f"paid twice: {names} was charged {times} times, asked for {allowed} times"


def _sent_at_once(world, _):
    """No two sessions that share a journal send a job at once, even where they may resubmit it."""
    if not world.plan.shared:
        return
    single = {
        prompt
        for prompts in _groups(world)
        for prompt in prompts
        if _asked_for(world, prompts, again=False) == 1
    }
    for prompt, told in world.server.at_once:
        if prompt in single:
            yield f"sent at once: {told}"


def _groups(world):
    """The prompts that are the same job: with a journal, those that share a key."""
    groups = {}
    for item in world.plan.items:
        same = item.key if item.key is not None and world.plan.journal else item.prompt
        groups.setdefault(same, {})[item.prompt] = None
    return [list(prompts) for prompts in groups.values()]


def _asked_for(world, prompts, *, again=True):
    """With a journal the runs ask for the same; a key names one job in all of them."""
    programs = world.programs
    if not world.plan.journal:
        return sum(_asked_by(program, each) for program in programs for each in prompts)
    keys = {
        name[1]
        for program in programs
        for name in program.asked
        if isinstance(name, tuple) and name[0] in prompts
    }
    times = sum(max(run.asked[each] for run in programs) for each in prompts) + len(keys)
    if again:
        times += sum(_asked_by(run, each) for run in _resubmitting(world) for each in prompts)
    return times


def _asked_by(program, prompt):
    """How many videos of this prompt one run asked for, with and without keys."""
    names = [name for name in program.asked if prompt in (name, name[0])]
    return sum(program.asked[name] for name in names)


def _lost(world, evidence):
    """Each charge is known by its id, or by an attempt on the disk that names none."""
    first = {prompt: group[0] for group in _groups(world) for prompt in group}
    unnamed = Counter(first[attempt.prompt] for attempt in evidence.attempts if attempt.is_open)
    for charge in world.server.ledger:
        prompt = charge.prompt
        if evidence.knows(charge.request_id):
            continue
        unnamed[first[prompt]] -= 1
        if unnamed[first[prompt]] >= 0:
            continue
        if not (
            world.plan.journal and charge.process.life.disk_full is None
        ) and evidence.told_uncertain(prompt):
            continue
        killed = charge.process.killed_at < math.inf
        if killed and not world.plan.journal and not _had_time(charge, charge.named_at):
            continue
        yield f"lost: {charge.request_id} of {prompt!r} is known nowhere"


def _resubmitting(world):
    return [program for program in world.programs if program.life.resubmit]


def _had_time(charge, since, seconds=0.01):
    """Whether the process was still running so long after that, while it was not stopped."""
    return charge.process.last_ran > max(since, charge.process.stopped_until) + seconds


def _not_logged(world, evidence):
    """An acceptance that arrived is in the log."""
    for charge in world.server.ledger:
        if _had_time(charge, charge.told_at) and charge.request_id not in evidence.log:
            yield f"not logged: {charge.request_id} was accepted, and the log does not say so"


def _not_recorded(world, evidence):
    """An acceptance that arrived is on the disk; if the disk fails, it is shouted."""
    for charge in world.server.ledger if world.plan.journal else ():
        if not _had_time(charge, charge.told_at, SETTLED):
            continue
        if charge.request_id not in evidence.recorded | _named_in(evidence.errors, charge):
            yield f"not recorded: {charge.request_id} of {charge.prompt!r}"


def _named_in(text, charge):
    return {charge.request_id} if charge.request_id in text else set()


def _over_the_limit(world, evidence):
    """A limit is passed by one job at most, whose price could not be known, and which is told."""
    limit = world.plan.limit
    if limit is None:
        return
    unknown = []  # charges of which no limit could know how much they were
    for charge in world.server.ledger:
        hidden = sum(
            each.credits
            for each in unknown
            if not _was_heard(each, evidence, charge) and _is_hidden_from(charge, each)
        )
        before = charge.spent_before
        if charge.surprise:
            unknown.append(charge)
        if _was_doubted(charge):
            continue
        if before - hidden >= limit and charge.credits:
            yield f"over the limit: {before} of {limit} were spent before {charge.request_id}"
        elif before - hidden + charge.credits > limit and not charge.surprise:
            total = before + charge.credits
            yield f"over the limit: {total} of {limit} by {charge.request_id}, at a known price"


def _was_heard(earlier, evidence, charge):
    """Whether the price of an earlier charge could be known when another one was made."""
    told = earlier.request_id in evidence.priced if evidence.has_journal else earlier.priced
    if earlier.process.life.disk_full and earlier.process is not charge.process:
        return False  # it may be on the disk now, and was not then
    return told and _heard_at(earlier) <= charge.at


def _heard_at(charge):
    """When its process took the answer: not while it was stopped."""
    process, told_at = charge.process, charge.told_at
    stop = process.life.stop
    stopped = stop is not None and told_at + 1e-6 >= process.stopped_until - stop[1]
    return max(told_at, process.stopped_until) if stopped else told_at


def _was_doubted(charge):
    """Whether its process was stopped right before the POST, for so long that others gave it up."""
    process = charge.process
    stop = process.life.stop
    doubted = process.world.plan.shared and stop is not None and stop[1] > DOUBT_SECONDS
    return doubted and 0 <= charge.at - process.stopped_until < SETTLED


def _is_hidden_from(charge, earlier):
    """Whether a limit could let a charge pass because of an earlier one that nobody told.

    In the same run, one at a price that nothing was known of counts as all that was left.
    """
    return earlier.estimable or charge.process is not earlier.process


def _untold(world, _):
    """A charge that passes the limit, as far as its process can know, is told."""
    limit = world.plan.limit
    for charge in world.server.ledger if limit is not None and world.plan.journal else ():
        known = sum(each.credits for each in world.server.ledger if _is_known(each, charge))
        passes = known + charge.credits > limit
        if (
            not passes
            or _was_doubted(charge)
            or not charge.priced
            or not _had_time(charge, charge.told_at)
        ):
            continue
        warned = _warnings_of(world, charge.process)
        if f"was charged {charge.credits} credits where" not in warned:
            total = known + charge.credits
            yield f"untold: {charge.request_id} took the charges to {total} of {limit}"


def _is_known(earlier, charge):
    """Whether the price of an earlier charge is known to the process that makes another."""
    if earlier.process is charge.process:
        return earlier.priced and earlier.told_at < charge.at
    told = _had_time(earlier, earlier.told_at, SETTLED) and not earlier.process.life.disk_full
    return earlier.priced and told and _heard_at(earlier) + SETTLED < charge.at


def _rejected(world, _):
    """What a program was told to be refused is not charged."""
    for program in world.programs:
        for prompt, charged in program.rejected:
            for charge in world.server.ledger[:charged]:
                ours = charge.process is program.process and charge.prompt == prompt
                if ours and _asked_by(program, prompt) == 1:
                    yield f"rejected: {charge.request_id} of {prompt!r} is charged"


def _falsely_uncertain(world, evidence):
    """What was certainly never sent is not uncertain, unless a kill or an exit made it so."""
    if not world.plan.reports_sending:
        return  # nobody can know it
    if any(_may_leave_doubt(process) for process in world.processes):
        return
    same = {prompt: group for group in _groups(world) for prompt in group}
    for row in evidence.rows:
        if row.is_unanswered and world.server.sent.isdisjoint(same[row.prompt]):
            yield f"falsely uncertain: {row.key} of {row.prompt!r} was never sent"


def _rules(world, evidence):
    """The journal keeps its rules, and records what it is told while its disk is fine."""
    for text in world.disk.broken_rules() if world.plan.journal else ():
        yield f"rule: {text}"
    for line in world.lines:
        untrue = "is uncertain, with" in line.text and "NOT on record" in line.text
        if untrue and not line.process.life.disk_full and "it is closed" not in line.text:
            yield f"rule: {line.text}"


def _not_held(world, evidence):
    """What another session is submitting is not taken for what a dead one left behind."""
    if world.plan.shared and "is that of the entry" in evidence.errors:
        return  # an answer with the id of another session's job could not be recorded
    begun = [program for program in world.programs if program.process is not None]
    for program in begun:
        seen = [text for thing in program.process.seen for text in _texts_of(thing)]
        seen += [line.text for line in world.lines if line.process is program.process]
        told = "\n".join(text for text in seen if "ended between the submit and its answer" in text)
        for prompts in _groups(world):
            left = (_may_have_left(each, prompts, program) for each in begun)
            if any(repr(prompt) in told for prompt in prompts) and not any(left):
                yield f"not held: {program.process} takes {prompts} for what a dead process left"


def _may_have_left(program, prompts, later):
    """Whether a program may have ended in the middle of a submit that a later one looks at."""
    if program.process.starts > later.process.last_ran:
        return False
    early = program is not later and (program.life.loose or program.life.leave != "wait")
    asked = any(_asked_by(program, prompt) for prompt in prompts)
    return asked and (early or _may_leave_doubt(program.process))


def _may_leave_doubt(process):
    """Whether it may have ended, for others at least, between a claim and its POST."""
    life = process.life
    stopped = process.world.plan.shared and life.stop
    return not process.alive or process.exiting_early or life.disk_full or stopped


def _end_not_recorded(world, evidence):
    """The end of a job that was waited for is on the disk."""
    states = {row.request_id: row.state for row in evidence.rows}
    for charge in _waited_for(world):
        if states.get(charge.request_id) in ("queued", "processing", "submitting"):
            state = states[charge.request_id]
            yield f"end not recorded: {charge.request_id} is {state} on the disk"


def _not_waited_for(world, _):
    """A session that is left in peace waits for the ends of its jobs."""
    for charge in _waited_for(world):
        if charge.ends > charge.process.last_ran and not charge.cancelled:
            yield f"not waited for: {charge.request_id}"


def _waited_for(world):
    """The charges that a session was told of, which was left in peace, and could ask about them."""
    for program in world.programs:
        process, life = program.process, program.life
        troubled = world.plan.query_faults or life.disk_full or life.stop or not world.plan.journal
        if troubled or not program.left_in_peace or not process.alive or process.exiting_early:
            continue
        for charge in world.server.ledger:
            if charge.process is process and charge.told_at < math.inf:
                yield charge


def _ends(world, evidence):
    """A job has the end that the server gives it, and is the one that was asked for."""
    for job in evidence.jobs:
        charge = world.server.find(job.request_id) if job.request_id else None
        if charge is None:
            continue
        state = "cancelled" if charge.cancelled else charge.outcome
        if job.state in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED):
            if charge.cancelled and job.state != state:
                continue  # it had ended before
            if job.state != state:
                yield f"wrong end: {job!r} is {state} at the server"
        if job.request is not None and not _is_same(world, job.request.prompt, charge.prompt):
            yield f"wrong job: {job!r} of {job.request.prompt!r} is that of {charge.prompt!r}"


def _is_same(world, prompt, other):
    return any(prompt in prompts and other in prompts for prompts in _groups(world))


def _left_unnamed(world, evidence):
    """What a session leaves running is named by a warning."""
    for program in world.programs:
        process = program.process
        if process is None or not program.left_whole or process.killed_at < math.inf:
            continue
        warned = _warnings_of(world, process)
        for charge in world.server.ledger:
            told = charge.process is process and charge.told_at < process.last_ran
            running = charge.ends > process.last_ran and not charge.cancelled
            if told and running and charge.request_id not in warned:
                yield f"unnamed: {process} leaves {charge.request_id} behind and says nothing"


def _warnings_of(world, process):
    return "\n".join(
        line.text
        for line in world.lines
        if line.process is process and line.level >= logging.WARNING
    )


def _key_shown(world, evidence):
    """The API key is nowhere."""
    places = {
        "the log": evidence.log,
        "the journal": "\n".join(row.text for row in evidence.rows),
        "an error": evidence.all_seen,
    }
    for place, text in places.items():
        if KEY in text or KEY.replace("/", "\\/") in text:
            yield f"key: it is in {place}"


def _jobs_in(thing):
    if isinstance(thing, BaseException):
        return [job for error in chain(thing) for job in getattr(error, "jobs", ())]
    if hasattr(thing, "outcomes"):
        return list(thing.outcomes)
    return [thing] if isinstance(thing, Job) else []


def _texts_of(thing):
    """All that a thing in the hands of a program says."""
    if isinstance(thing, BaseException):
        for error in chain(thing):
            yield f"{error} {error!r} {getattr(error, '__notes__', '')}"
            yield from map(str, vars(error).values())
    else:
        yield repr(thing)
    for job in _jobs_in(thing):
        if job.error is not None:
            yield from _texts_of(job.error)
        yield f"{job!r} {job.request_id} {job.state}"
