"""A run is cancelled at its first suspension, then at its second, and so on to its last.

After each nothing may be lost or left: no slot, no task, no temporary file, no reserved credit, and
above all no job that the server has accepted.
"""

import asyncio
import contextlib
import json
import time
import types

import anyio
import pytest

from seedance_async import GenerationRequest, JobState, Timeouts
from seedance_async.api.transport import MediaResponse
from seedance_async.jobs.downloads import downloader as downloads
from seedance_async.jobs.downloads.part_file import PartFile
from seedance_async.journal import SQLiteJournal, read_entries
from tests.conftest import QUICK_POLL
from tests.support.downloads import SIZE, VIDEO
from tests.support.fakes import FakeAPI, error_reply
from tests.support.memory_journal import MemoryJournal

HOWS = ["at once", "a turn later", "three times", "by a scope"]
SLOTS = 3
MOST_SUSPENSIONS = 2_000


def prompts(count):
    return [GenerationRequest(f"prompt {number}", duration=5) for number in range(count)]


class Cancelling:
    """Runs a coroutine in the current task and cancels that at the n-th suspension."""

    def __init__(self, coroutine, at, how):
        self._coroutine, self._at, self._how = coroutine, at, how
        self._scope = anyio.CancelScope()
        self.suspensions = 0

    async def run(self):
        """Whether it ran to its end; what it raised but for the cancellation goes on."""
        try:
            with self._scope:
                await self._drive()
                return True
        except asyncio.CancelledError:
            assert self._how != "by a scope", "a scope swallows its own cancellation"
            while asyncio.current_task().uncancel():
                pass
        return False

    @types.coroutine
    def _drive(self):
        step, value = self._coroutine.send, None
        while True:
            try:
                waited_for = step(value)
            except StopIteration as end:
                return end.value
            self.suspensions += 1
            assert self.suspensions < MOST_SUSPENSIONS, "it spins"
            self._cancel()
            try:
                step, value = self._coroutine.send, (yield waited_for)
            except BaseException as error:
                step, value = self._coroutine.throw, error

    def _cancel(self):
        task = asyncio.current_task()
        times = 3 if self._how == "three times" else 1
        if not 0 <= self.suspensions - self._at < times:
            return
        if self._how == "by a scope":
            self._scope.cancel()
        elif self._how == "a turn later":
            asyncio.get_running_loop().call_soon(task.cancel)
        else:
            task.cancel()


async def cancelled_everywhere(how, attempt):
    """Call `attempt` with a canceller for each place, until one run is over before its place."""
    for place in range(1, MOST_SUSPENSIONS):
        before = asyncio.all_tasks()
        cancelling = await attempt(lambda work, at=place: Cancelling(work, at, how))
        for _ in range(3):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == before, f"a task is left, cancelled at {place}"
        if cancelling.suspensions < place:
            return place - 1
    raise AssertionError("it never ran to its end")


class SlowJournal(MemoryJournal):
    """A `MemoryJournal` that suspends before and after it writes, as one on a disk does."""

    def __init__(self):
        super().__init__()
        self.kept = {}

    async def claim(self, *arguments, **named):
        return await self._slowly(super().claim(*arguments, **named))

    async def record(self, *arguments, **named):
        return await self._slowly(super().record(*arguments, **named))

    async def flush(self):
        return await self._slowly(super().flush())

    async def find(self, *arguments):
        return await self._slowly(super().find(*arguments))

    async def entries(self):
        return await self._slowly(super().entries())

    async def aclose(self):
        self.kept = dict(self.recorded)
        await self._slowly(super().aclose())

    async def _slowly(self, work):
        writing = asyncio.ensure_future(self._delayed(work))  # as if in a thread
        return await asyncio.shield(writing)

    async def _delayed(self, work):
        await asyncio.sleep(0.01)
        result = await work
        await asyncio.sleep(0.01)
        return result


def check_whole(session, api):
    """What must hold of a session when all its jobs have ended."""
    assert "0 in flight, <Poller 0 watched, 0 scheduled>" in repr(session)
    for gate in (session.client.submit_gate, session.client.query_gate):
        assert repr(gate).startswith("<Gate 0/")
        assert repr(gate).endswith(" 0 waiting>")
    if "<CreditLimit" in repr(session):
        assert f"<CreditLimit {40 * len(api.jobs)} of" in repr(session)
        assert "submit in progress" not in repr(session)
    assert not api.prompts or max(api.prompts.values()) == 1, "nothing is submitted twice"


def check_kept(session, api, caplog):
    """Each job that the server accepted is known: by its end, in the log, or as uncertain."""
    ended = session.registry._ended_ids
    lost = [known for known in api.jobs if known not in ended and known not in caplog.text]
    uncertain = [r for r in caplog.messages if "may have been accepted" in r]
    assert len(lost) == session.stats().counts[JobState.UNCERTAIN] == len(uncertain)


def check_journal(journal, api, ends=("succeeded",)):
    if journal is None:
        return
    entries = journal.kept.values()
    known = {entry.request_id for entry in entries if entry.request_id is not None}
    assert known == set(api.jobs)
    assert {e.state for e in entries if e.request_id is not None} <= set(ends)
    assert {e.state for e in entries if e.request_id is None} <= {"rejected"}


@pytest.fixture(params=["no journal", "a journal and a limit"])
def books(request):
    """Options of a session, new ones with each call."""
    if request.param == "no journal":
        return dict
    return lambda: {"journal": SlowJournal(), "max_credits": 4_000}


@pytest.fixture(params=HOWS)
def how(request):
    return request.param


# --- inside a session that goes on ---------------------------------------------------------------


async def one_submit(session):
    await session.submit(prompts(1)[0])


async def one_generation(session):
    await session.generate(prompts(1)[0])


async def a_cancelled_job(session):
    job = await session.submit(prompts(1)[0])
    await job.cancel()
    with contextlib.suppress(Exception):
        await job


async def a_stream(session):
    async for _ in session.as_completed(prompts(7)):
        await asyncio.sleep(0.5)


async def a_stream_broken_out_of(session):
    async with contextlib.aclosing(session.as_completed(prompts(7))) as jobs:
        async for _ in jobs:
            break


async def a_stream_of_a_slow_source(session):
    async def source():
        for request in prompts(4):
            await asyncio.sleep(3)
            yield request

    async for _ in session.as_completed(source()):
        pass


async def a_batch(session):
    await session.run(prompts(5))


async def an_attached_job(session):
    await (await session.attach("req_0"))


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    "work",
    [
        one_submit,
        one_generation,
        a_cancelled_job,
        a_stream,
        a_stream_broken_out_of,
        a_stream_of_a_slow_source,
        a_batch,
    ],
)
async def test_work_in_a_session_can_be_cancelled_anywhere(make_session, books, how, work, caplog):
    async def attempt(cancelling):
        api, options = FakeAPI(answer_after=0.5), books()
        session = make_session(transport=api, max_in_flight=SLOTS, **options)
        caplog.clear()
        async with session:
            run = cancelling(work(session))
            await run.run()
            await session.generate(GenerationRequest("the next one", duration=5))
        check_whole(session, api)
        check_kept(session, api, caplog)
        check_journal(options.get("journal"), api, ("succeeded", "cancelled"))
        assert api.closed
        return run

    assert await cancelled_everywhere(how, attempt) >= 1


@pytest.mark.virtual_time
async def test_a_submit_behind_refusals_can_be_cancelled_anywhere(make_session, books, how, caplog):
    """Where nothing was sent in the end nothing is counted, and the way is free again."""

    async def attempt(cancelling):
        api, options = FakeAPI(answer_after=0.5), books()
        api.script["create"] += [error_reply(429, retry_after="7"), error_reply(429)]
        session = make_session(transport=api, max_in_flight=SLOTS, **options)
        caplog.clear()
        async with session:
            run = cancelling(one_submit(session))
            await run.run()
            del run._coroutine
            refused = api.count("create") - len(api.jobs)
            await session.generate(GenerationRequest("the next one", duration=5))
        api.sent = [request for request in api.sent if b"the next" not in (request.body or b"")]
        assert len(api.prompts) <= 1
        assert refused <= 2
        api.sent.clear()
        check_whole(session, api)
        check_kept(session, api, caplog)
        check_journal(options.get("journal"), api)
        return run

    assert await cancelled_everywhere(how, attempt) > 3


@pytest.mark.virtual_time
async def test_a_submit_whose_answer_never_comes_can_be_cancelled_anywhere(
    make_session, books, how, caplog
):
    """Cancelled after sending it ends as uncertain, within the grace, and counts as spent."""

    async def attempt(cancelling):
        api, options = FakeAPI(), books()

        async def accept_and_hang(request):
            api.create(request)
            await asyncio.sleep(200)
            raise TimeoutError

        session = make_session(
            transport=api, max_in_flight=SLOTS, timeouts=Timeouts(submit_grace=2), **options
        )
        caplog.clear()
        async with session:
            if "max_credits" in options:  # the price is known: the lost submit is no probe
                await session.generate(GenerationRequest("the first one", duration=5))
            api.script["create"].append(accept_and_hang)
            run = cancelling(one_submit(session))
            with contextlib.suppress(Exception):
                await run.run()
            api.script["create"].clear()
            await session.generate(GenerationRequest("the next one", duration=5))
        check_whole(session, api)
        check_kept(session, api, caplog)
        if "journal" in options:
            entries = options["journal"].kept.values()
            lost = [e for e in entries if json.loads(e.request)["prompt"] == "prompt 0"]
            sent = api.prompts["prompt 0"]
            assert [e.state for e in lost] in (["uncertain"],) if sent else (["rejected"], [])
        return run

    assert await cancelled_everywhere(how, attempt) >= 1


@pytest.mark.virtual_time
async def test_taking_up_a_job_can_be_cancelled_anywhere(make_session, books, how):
    async def attempt(cancelling):
        api, options = FakeAPI(), books()
        api.jobs["req_0"] = asyncio.get_running_loop().time()
        session = make_session(transport=api, max_in_flight=SLOTS, **options)
        async with session:
            run = cancelling(an_attached_job(session))
            await run.run()
            assert (await (await session.attach("req_0"))).status == "succeeded"
        assert "<Poller 0 watched, 0 scheduled>" in repr(session)
        assert session.stats().counts[JobState.QUEUED] == 0
        return run

    assert await cancelled_everywhere(how, attempt) >= 1


# --- the session itself --------------------------------------------------------------------------


async def left_normally(session):
    async with session:
        for request in prompts(2):
            await session.submit(request)


async def left_by_an_exception(session):
    with contextlib.suppress(LookupError):
        async with session:
            for request in prompts(2):
                await session.submit(request)
            raise LookupError


async def left_within_a_stream(session):
    with contextlib.suppress(LookupError):
        async with session:
            async for _ in session.as_completed(prompts(7)):
                raise LookupError


@pytest.mark.virtual_time
@pytest.mark.parametrize("cancel_on_error", [False, True])
@pytest.mark.parametrize("work", [left_normally, left_by_an_exception, left_within_a_stream])
async def test_a_session_can_be_cancelled_anywhere(
    make_session, books, how, work, cancel_on_error, caplog
):
    async def attempt(cancelling):
        api, options = FakeAPI(answer_after=0.5), books()
        session = make_session(
            transport=api, max_in_flight=SLOTS, cancel_on_error=cancel_on_error, **options
        )
        caplog.clear()
        run = cancelling(work(session))
        await run.run()
        entered = session._home is not None and session._closed
        if entered:
            check_whole(session, api)
            check_kept(session, api, caplog)
            ends = ("succeeded", "abandoned", "cancelled")
            check_journal(options.get("journal"), api, ends)
        else:
            assert not api.sent
        if "journal" in options:
            assert "closed" in repr(options["journal"])
        assert api.closed
        return run

    assert await cancelled_everywhere(how, attempt) > 1


# --- files and threads ---------------------------------------------------------------------------


class WithMedia(FakeAPI):
    """A `FakeAPI` whose videos can be fetched, in small pieces."""

    @contextlib.asynccontextmanager
    async def open_media(self, url, headers):
        await asyncio.sleep(0)
        yield MediaResponse(200, {"content-length": str(SIZE)}, self._pieces())

    async def _pieces(self):
        for start in range(0, SIZE, 3000):
            await asyncio.sleep(0)
            yield VIDEO[start : start + 3000]


def slowly(method, running):
    def slow(*arguments):
        running.append(method)
        time.sleep(0.01)  # in a thread: whoever is cancelled meanwhile is quicker
        try:
            return method(*arguments)
        finally:
            running.remove(method)

    return slow


async def test_a_download_can_be_cancelled_anywhere(make_session, how, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "WRITE_SIZE", 3_000)
    running = []
    for name in ("open", "write", "publish"):
        monkeypatch.setattr(PartFile, name, slowly(getattr(PartFile, name), running))
    session = make_session(
        transport=WithMedia(seconds=0.01), poll=QUICK_POLL, max_in_flight=SLOTS, max_downloads=1
    )
    async with session:
        job = await session.submit(prompts(1)[0])
        await job

        async def attempt(cancelling):
            run = cancelling(job.download(tmp_path / "v.mp4"))
            await run.run()
            assert not running, "a thread still has the file"
            assert session._downloader._slots._value == 1
            left = [path.name for path in tmp_path.iterdir()]
            assert left in ([], ["v.mp4"]), "a temporary file is left"
            if left:
                assert (tmp_path / "v.mp4").read_bytes() == VIDEO
                (tmp_path / "v.mp4").unlink()
            return run

        assert await cancelled_everywhere(how, attempt) > 5
    assert not list(tmp_path.iterdir()), "a thread that went on made a file"


async def test_a_run_with_a_journal_on_disk_can_be_cancelled_anywhere(
    make_session, how, tmp_path, caplog
):
    number = 0

    async def attempt(cancelling):
        nonlocal number
        number += 1
        path, api = tmp_path / f"{number}.db", FakeAPI(seconds=0.03, answer_after=0.01)
        session = make_session(
            transport=api, poll=QUICK_POLL, max_in_flight=SLOTS, journal=path, max_credits=4_000
        )
        caplog.clear()
        run = cancelling(left_normally(session))
        await run.run()
        if path.exists():
            journal = SQLiteJournal(path)
            await journal.open()  # nobody holds its lock any longer
            await journal.aclose()
            entries = read_entries(path)
            assert {e.request_id for e in entries if e.request_id} == set(api.jobs)
            assert {e.state for e in entries} <= {"succeeded", "abandoned", "rejected"}
        assert not api.prompts or max(api.prompts.values()) == 1
        return run

    assert await cancelled_everywhere(how, attempt) > 3
