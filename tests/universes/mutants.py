"""The safeguards of the SDK, each taken out once: some universe must notice.

A mutant replaces one piece of the text of one function, for as long as its context lasts. The text
must be there exactly once, so that a mutant never silently does nothing.
"""

from __future__ import annotations
import __future__

import contextlib
import importlib
import inspect
import textwrap

import attrs


@attrs.frozen
class Mutant:
    """A safeguard, and how it is taken out.

    Attributes:
        name: what no longer happens.
        place: "module:qualified.name" of the function, below `seedance_async`.
        old, new: the text that is replaced, and what replaces it.
        before: a safeguard that catches the same earlier; it is taken out as well.
    """

    name: str
    place: str
    old: str
    new: str
    before: Mutant | None = None

    @contextlib.contextmanager
    def applied(self):
        """Within, the SDK does not have the safeguard."""
        function = self.function
        kept, function.__code__ = function.__code__, self._mutated(function)
        try:
            with self.before.applied() if self.before else contextlib.nullcontext():
                yield
        finally:
            function.__code__ = kept

    @property
    def function(self):
        """The function whose text is changed."""
        found, _, path = self.place.partition(":")
        found = importlib.import_module(f"seedance_async.{found}")
        for name in path.split("."):
            found = inspect.unwrap(inspect.getattr_static(found, name))
        return found

    def _mutated(self, function):
        text = textwrap.dedent(inspect.getsource(function))
        if text.count(self.old) != 1:
            raise LookupError(f"{self.place} does not have {self.old!r} once")
        text = text.replace(self.old, self.new)
        flags = __future__.annotations.compiler_flag
        place = dict(function.__globals__)
        exec(compile(text, f"<{self.name}>", "exec", flags), place)
        return inspect.unwrap(place[function.__name__]).__code__


_SUBMITTER, _CLIENT, _RETRY = (
    "session.submitter:Submitter",
    "api.client:SeedanceClient",
    "api.retry",
)
_OUTCOMES = "session.outcomes:SubmitOutcomes"
_JOURNALING, _DATABASE = "session.journaling:JournalRecorder", "journal.database:Database"
_LIMIT = "session.credit_limit:CreditLimit"
_GATE, _REGISTRY = "api.rate_limit.gate:Gate", "jobs.registry:TaskRegistry"
_SECRETS = "api.transport.failures:Secrets"

MUTANTS = [
    Mutant("an uncertain job of an earlier run is sent again",
           f"{_SUBMITTER}._may_submit", "known.is_uncertain and self._resubmit_uncertain",
           "known.is_uncertain"),
    Mutant("a submit that came to nothing keeps its turn under a limit",
           f"{_SUBMITTER}._submit", "settlement.never_sent()", "pass"),
    Mutant("an uncertain submit counts as nothing under a limit",
           f"{_OUTCOMES}.settle", "settlement.charged(None)", "settlement.never_sent()"),
    Mutant("an acceptance is not logged",
           f"{_OUTCOMES}._accept", "_log.info(", "(lambda *_: None)("),
    Mutant("an id of a job of an earlier run is believed",
           f"{_OUTCOMES}._accept", "self._journal.check_new(",
           "(lambda *_: None)("),
    Mutant("the end of a job is not recorded",
           f"{_OUTCOMES}._accept", "self._journal.follow(record)", "pass"),
    Mutant("an accepted job is not polled",
           f"{_OUTCOMES}._accept", "self._poller.watch(record)", "pass"),
    Mutant("a slot is not given back when its job ends",
           f"{_SUBMITTER}.submit_in_slot", "record.on_final(self._slot_freer)", "pass"),
    Mutant("the outcome of a submit is not recorded",
           f"{_OUTCOMES}.write", "await journal.write_outcome(record)", "pass"),
    Mutant("the outcome of a submit whose caller was cancelled is not recorded",
           f"{_SUBMITTER}._settle_late", "self._journal.write_soon(record)", "pass"),
    Mutant("a refused request keeps its automatic key",
           f"{_SUBMITTER}._release_key", "self.release_key(record.key)", "pass"),
    Mutant("a retry does not get the submit that went on without its caller",
           f"{_SUBMITTER}._orphan", "self.orphans.add(", "(lambda *a, **b: None)("),
    Mutant("a job whose caller was cancelled before it was sent stays submitting",
           f"{_SUBMITTER}._withdraw", "self._journal.never_sent(record)", "pass"),
    Mutant("an attached job is asked for once more",
           f"{_SUBMITTER}.submit", "if attached is not None:", "if False:"),
    Mutant("a submit under way is cut off with its caller",
           f"{_CLIENT}._post_shielded", "cancel=not pending.may_be_sent", "cancel=True"),
    Mutant("a transport that reports nothing counts as one that has sent nothing",
           f"{_CLIENT}._post_shielded", "not self._reports_sending", "False"),
    Mutant("the bytes that are out are forgotten",
           "api.client:PendingSubmit.note_sent", "self.may_be_sent = True", "pass"),
    Mutant("the intent is not recorded",
           "api.client:PendingSubmit.prepare", "await self.before_sending()", "pass"),
    Mutant("the outcome of a submit without its caller is told to nobody",
           f"{_CLIENT}._report", "pending.if_cancelled(outcome)", "pass"),
    Mutant("a gate is not left after a submit",
           f"{_CLIENT}.create_prepared", "self.submit_gate.leave()", "pass"),
    Mutant("what may have been delivered is sent again",
           f"{_RETRY}:judge_submit", 'if error.delivered == "maybe":', "if False:"),
    Mutant("an error of the server counts as a refusal",
           f"{_RETRY}:judge_submit", "Verdict.THROTTLED if refused else Verdict.UNCERTAIN",
           "Verdict.THROTTLED if refused else Verdict.REFUSED"),
    Mutant("any 503 counts as a refusal for now",
           f"{_RETRY}:judge_submit", "and error.retry_after is not None and error.code is not None",
           ""),
    Mutant("a status that says nothing counts as a refusal",
           f"{_RETRY}:judge_submit", "error.status in _REFUSALS", "error.status < 500"),
    Mutant("a refused key stops no submits",
           f"{_CLIENT}._tell_gate", "self.submit_gate.shut(error, SHUT_SECONDS)", "pass"),
    Mutant("an error that reports a charge counts as a refusal",
           "api.protocol:_raise_if_accepted", "if evident:", "if False:"),
    Mutant("an answer about another job is believed",
           "api.protocol:decode_get", "if answered_id != request_id:", "if False:"),
    Mutant("Retry-After is not read",
           "api.protocol:_asked_wait", "if asked is None:", "if True:"),
    Mutant("a hold of the gate holds nobody",
           f"{_GATE}.hold", "asyncio.get_running_loop().time() + seconds", "0.0"),
    Mutant("a caller that leaves the gate lets nobody in",
           f"{_GATE}.leave", "self._admit()", "pass"),
    Mutant("an id that another job of the session had is believed",
           f"{_REGISTRY}.accept", "if submission.request_id in self._ended_ids:", "if False:"),
    Mutant("an id that another running job has is believed",
           f"{_REGISTRY}._claim", "if holder is not None and holder is not record:", "if False:"),
    Mutant("nobody hears that a job was taken back",
           f"{_REGISTRY}.discard", "watcher(record)", "pass"),
    Mutant("an intent that was refused for now stays an intent",
           f"{_JOURNALING}.take_back",
           'self._record_soon(record, attempt, {"state": "rejected", "error": reason})', "pass"),
    Mutant("an id is not recorded",
           "session.journaling:_as_changes", "record.request_id or _named_id(record.error)",
           "None"),
    Mutant("an id is not looked up when it is attached",
           f"{_JOURNALING}.key_of", "return self._holders.get(request_id)", "return None"),
    Mutant("an acceptance is told before it is recorded",
           f"{_JOURNALING}.write_outcome", "await shielded(self.write(record))",
           "self.write_soon(record)"),
    Mutant("an intent is sent before it is recorded",
           f"{_JOURNALING}.intend", "await shielded(  # noqa",
           "asyncio.ensure_future(  # noqa"),
    Mutant("what an earlier run spent is forgotten",
           "journal.spending:Spending.spent",
           "return self._sql.value(", "return 0 and self._sql.value("),
    Mutant("a token may name a job with the key of another",
           "session.resumer:Resumer.attach",
           "known is not None and known.request_id not in (None, token.request_id)", "False"),
    Mutant("a job that is resumed is not polled",
           "session.resumer:Resumer.resume", "self._poller.watch(record, at_once=True)", "pass"),
    Mutant("a limit is not looked at",
           f"{_LIMIT}._check", "if budget.spent + needed > budget.limit:", "if False:"),
    Mutant("a charge is not counted",
           f"{_LIMIT}._spend", "budget.spent += charged", "pass"),
    Mutant("an uncertain submit at an unknown price counts as nothing",
           f"{_LIMIT}._spend", "left if reservation.credits is None else reservation.credits",
           "reservation.credits or 0"),
    Mutant("a callback's id is believed without its prompt",
           "session.webhook_callbacks:Callbacks._try", "if not _matches(generation, record):",
           "if False:"),
    Mutant("the key is shown in answers",
           f"{_SECRETS}.hide_key", "if len(self._key) < SHORTEST_KEY:", "if True:"),
    Mutant("the key is shown where it is escaped",
           f"{_SECRETS}.hide_key", 'if b"\\\\" in body:', "if False:"),
    Mutant("the key is shown in failures",
           f"{_SECRETS}.failure", "self.hide(describe(error))", "describe(error)"),
    Mutant("what is left running is not named",
           "session.shutdown:_name_running", "_log.warning(", "(lambda *_: None)("),
    Mutant("a session does not wait for its jobs",
           "session.session:SeedanceSession.__aexit__", "wait=error is None", "wait=False"),
    Mutant("a wait that was broken off does not name its jobs",
           "session.batch:attach_jobs", "error.jobs = tuple(jobs)", "pass"),
    Mutant("a stream that ends does not say so",
           "session.stream:Stream._pulled_all", "self._ended.put_nowait(None)", "pass"),
    Mutant("a stream whose submit fails waits for it",
           "session.stream:Stream._feed",
           "record.on_final(_Enqueue(pulled.number, self._ended))",
           "record.error or record.on_final(_Enqueue(pulled.number, self._ended))"),
    Mutant("a batch that is ended while it submits drops what is accepted",
           "session.stream:Stream._fed",
           "if record is not None and (record.state.is_final or self._goes_on(record)):",
           "if False:"),
    Mutant("a claim ignores what became of the job since it was looked up",
           f"{_DATABASE}._claimable_job", "AND attempt = ?", "AND ? IS NOT NULL"),
    Mutant("a claim ignores that another session is submitting the job",
           f"{_DATABASE}._claimable_job",
           '(state == "sending" and self.owners.living([owner]))', "False"),
    Mutant("a claim looks at the last attempt alone",
           f"{_DATABASE}._claimable_job", "FROM attempts WHERE job = ?",
           "FROM attempts WHERE job = ? ORDER BY number DESC LIMIT 1"),
    Mutant("a claim ignores that the job was accepted meanwhile",
           f"{_DATABASE}._claimable_job", 'state == "accepted"', "False"),
    Mutant("a claim ignores that another session has the key",
           f"{_JOURNALING}._claim", "if attempt is None:", "if False:"),
    Mutant("what another session is submitting is not waited for",
           f"{_JOURNALING}.find", "while known is not None and known.is_held:", "while False:"),
    Mutant("a session that is alive counts as dead",
           "journal.owners:Owners.living",
           "number in asked and Owner(*sign).is_alive(self._sql.now(), self._doubt)", "False"),
    Mutant("a session that nobody hears of counts as alive",
           "journal.owner:Owner.is_alive", "now - self.seen_at <= doubt", "True"),
    Mutant("a limit is looked at by each session alone",
           f"{_DATABASE}.claim", "if intent.limits:", "if False:"),
    Mutant("sessions under one limit send at the same time",
           "journal.spending:Spending.reserve", "if self._owners.is_shared:", "if False:"),
    Mutant("sessions under one limit send at the same time at prices that nobody knows",
           "journal.spending:Spending._check_turn", "all(prices) and", ""),
    Mutant("sessions under one limit send at the same time when little is left of it",
           "journal.spending:Spending._check_turn",
           " and SURPRISE * sum(filter(None, prices)) <= room", ""),
    Mutant("an attempt is forgotten when its job is sent again",
           f"{_DATABASE}.claim", 'self._change("jobs", job, {**fresh, **said, "updated_at": now})',
           'self._change("jobs", job, {**fresh, **said, "updated_at": now}); '
           'self._run("DELETE FROM attempts WHERE job = ?", job)'),
    Mutant("an end is overwritten",
           f"{_DATABASE}._record_job", 'f"state NOT IN ({_ENDED})"', '"true"'),
    Mutant("an acceptance is taken back",
           "journal.database:_state_after", 'before == "sending"',
           'before in ("sending", "accepted")'),
    Mutant("a refusal settles an earlier doubt",
           f"{_DATABASE}._record_job",
           "if told is JobState.REJECTED and self._has_open(job):", "if False:"),
    Mutant("the journal believes an id that another job has",
           f"{_DATABASE}._free_id",
           "raise RequestIdTakenError(request_id, key, path=self.path)", "return"),
    Mutant("the answer to an uncertain submit takes another job's id",
           f"{_DATABASE}.record",
           "told is JobState.UNCERTAIN and holder is not None",
           "False",
           before=Mutant("a doubt is recorded under the id of another job of the session",
                         f"{_JOURNALING}._changes", 'changes["request_id"] = None', "pass")),
    Mutant("a claim that came too late is repeated as it was",
           f"{_JOURNALING}._claim", "self._attempts.pop(intent.key, None)", "pass"),
    Mutant("a session does not learn what others have spent",
           f"{_JOURNALING}.intend", "if limit is not None:", "if False:"),
]  # fmt: skip
