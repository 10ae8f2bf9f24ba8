"""What goes wrong in places that no module's own tests can see: between rooms, and around them."""

import asyncio
import contextlib
import errno
import resource
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from seedance_async import (
    AiohttpTransport,
    Backoff,
    DownloadError,
    GenerationRequest,
    JobState,
    JournalError,
    RetryPolicy,
    SeedanceClient,
    SeedanceError,
    SubmitUncertainError,
    Timeouts,
    TransportError,
)
from seedance_async.api.options import Endpoint
from seedance_async.api.transport.media import public_socket
from tests.conftest import KEY, QUICK_POLL, QUICK_RETRY
from tests.session.test_cancellation import WithMedia, prompts
from tests.support.downloads import (
    VIDEO,
    cut,
    downloader,
    refused,
    save,
    succeeded,
    whole,
)
from tests.support.fakes import FakeAPI, error_reply
from tests.support.memory_journal import MemoryJournal
from tests.support.raw_server import RawServer
from tests.test_secrets import ACCEPTED

REQUEST = GenerationRequest("a river", duration=5)


# --- slow and blocked ----------------------------------------------------------------------------


def trickling(head, rest):
    """A body that never stalls for long and never ends."""

    async def behave(connection):
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + head)
        while True:
            await asyncio.sleep(0.02)
            await connection.send(rest)

    return behave


async def test_an_answer_that_trickles_is_cut_off_and_searched_for_its_id():
    async with (
        RawServer(trickling(ACCEPTED[:-1], b" ")) as server,
        SeedanceClient(KEY, server.url, timeouts=Timeouts(submit=0.4)) as client,
    ):
        assert (await client.create(REQUEST)).request_id == "req_1"


async def test_an_answer_that_trickles_without_an_id_leaves_the_submit_uncertain():
    async with (
        RawServer(trickling(b'{"success": true, ', b" ")) as server,
        SeedanceClient(KEY, server.url, timeouts=Timeouts(submit=0.4)) as client,
    ):
        with pytest.raises(SubmitUncertainError, match="Timeout"):
            await client.create(REQUEST)
        assert server.connections == 1


async def test_a_query_whose_answer_trickles_ends_at_its_deadline():
    retry = RetryPolicy(attempts=2, timeout=5, backoff=QUICK_RETRY.backoff)
    async with (
        RawServer(trickling(b"{", b" ")) as server,
        SeedanceClient(KEY, server.url, retry=retry, timeouts=Timeouts(request=0.2)) as client,
    ):
        with pytest.raises(TransportError):
            await client.get("req_1")
        assert server.connections == 2


def block(seconds):
    """What an application must not do to its event loop, and does."""
    time.sleep(seconds)


async def test_an_answer_that_came_while_the_loop_was_blocked_is_taken():
    """Longer than any timeout that would be usual for a request: a submit has none so short."""
    received = threading.Event()

    def serve(listener):
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            received.set()
            time.sleep(0.3)  # until nobody looks
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(ACCEPTED)}\r\n\r\n"
            connection.sendall(head.encode() + ACCEPTED)
            connection.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=serve, args=[listener])
        server.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with SeedanceClient(KEY, url) as client:
            submitting = asyncio.ensure_future(client.create(REQUEST))
            await asyncio.get_running_loop().run_in_executor(None, received.wait)
            block(1.0)  # the answer comes into the socket
            assert (await submitting).request_id == "req_1"
    server.join()


# --- where a public name leads -------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.0.0.8", "::1"])
async def test_a_public_name_that_leads_to_a_private_address_is_not_fetched(monkeypatch, address):
    async def behave(connection):
        raise AssertionError("nobody must connect")

    async def resolve(host, port, *, family=0, type=0, proto=0, flags=0):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        place = (address, port, 0, 0) if ":" in address else (address, port)
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place)]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    async with RawServer(behave) as server:
        transport = AiohttpTransport(Endpoint("https://api.example", KEY))
        with pytest.raises(TransportError, match="not a public one") as caught:
            async with transport.open_media(f"https://media.example:{server.port}/v.mp4", {}):
                pass
        await transport.aclose()
        assert server.connections == 0
    assert not caught.value.transient


def test_a_public_address_gets_its_socket():
    info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("93.184.215.14", 443))
    with public_socket(info) as made:
        assert made.family is socket.AF_INET


async def test_an_emulator_beside_it_may_serve_the_media_itself():
    async def behave(connection):
        await connection.read_request()
        await connection.answer("200 OK", VIDEO)

    async with RawServer(behave) as server:
        transport = AiohttpTransport(Endpoint(server.url, KEY))
        async with transport.open_media(f"http://localhost:{server.port}/v.mp4", {}) as response:
            assert response.status == 200
        await transport.aclose()


# --- downloads -----------------------------------------------------------------------------------


@contextlib.contextmanager
def a_disk_of(size):
    """Files cannot grow beyond this, as far as the operating system is concerned."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_disk_that_is_really_full_is_a_download_error_and_leaves_nothing(tmp_path):
    with a_disk_of(2_000):
        error = await refused(tmp_path, whole())
    assert error.__cause__.errno == errno.EFBIG


@pytest.mark.parametrize("length", ["9" * 5000, "٣", "-1", "0x10"])
async def test_a_length_that_is_no_number_is_taken_for_none(tmp_path, length):
    await save(tmp_path, whole(content_length=length))


async def test_a_range_of_absurd_numbers_is_not_trusted(tmp_path):
    absurd = "9" * 5000

    def answer(headers):
        return 206, {"content-range": f"bytes 0-{absurd}/{absurd}"}, []

    await save(tmp_path, cut(3000), answer, whole())


async def test_a_redirect_to_no_url_at_all_is_a_download_error(tmp_path):
    async def behave(connection):
        await connection.read_request()
        await connection.answer("302 Found", b"", "Location: http://[")

    async with RawServer(behave) as server:
        transport = AiohttpTransport(Endpoint(server.url, KEY))
        with pytest.raises(DownloadError, match="not fetched"):
            await downloader(transport).save(succeeded(server.url), tmp_path / "v.mp4")
        await transport.aclose()


async def test_a_saved_video_is_handed_out_though_the_journal_cannot_note_it(
    make_session, tmp_path, caplog
):
    class Unreadable(MemoryJournal):
        broken = False

        async def find(self, key):
            if self.broken:
                raise JournalError("the disk failed")
            return await super().find(key)

    journal, api = Unreadable(), WithMedia(seconds=0.01)
    async with make_session(transport=api, poll=QUICK_POLL, journal=journal) as session:
        job = await session.submit(REQUEST)
        await job
        journal.broken = True
        assert (await job.download(tmp_path / "v.mp4")).read_bytes() == VIDEO
    assert "the disk failed" in caplog.text


# --- leaving a session ---------------------------------------------------------------------------


@pytest.mark.virtual_time
async def test_leaving_waits_for_what_is_being_submitted_and_no_longer(make_session):
    session = make_session(transport=FakeAPI(answer_after=1.0))
    with pytest.raises(LookupError):
        async with session:
            submitting = asyncio.ensure_future(session.submit(REQUEST))
            await asyncio.sleep(0.5)
            began = asyncio.get_running_loop().time()
            raise LookupError
    assert asyncio.get_running_loop().time() - began == pytest.approx(0.5)
    assert (await submitting).request_id == "req_0"


@pytest.mark.virtual_time
async def test_a_job_accepted_after_the_session_was_left_is_reported_too(make_session, caplog):
    session = make_session(transport=FakeAPI(answer_after=60.0))
    with pytest.raises(LookupError):
        async with session:
            submitting = asyncio.ensure_future(session.submit(REQUEST))
            await asyncio.sleep(0.5)
            raise LookupError
    assert "jobs running" not in caplog.text
    job = await submitting
    assert (job.state, job.request_id) == (JobState.ABANDONED, "req_0")
    assert "req_0" in caplog.text


@pytest.mark.virtual_time
async def test_a_job_accepted_after_the_journal_was_closed_is_reported_with_its_id(
    make_session, caplog
):
    session = make_session(transport=FakeAPI(answer_after=60.0), journal=MemoryJournal())
    with pytest.raises(LookupError):
        async with session:
            submitting = asyncio.ensure_future(session.submit(REQUEST))
            await asyncio.sleep(0.5)
            raise LookupError
    with pytest.raises(JournalError) as caught:
        await submitting
    assert caught.value.request_id == "req_0"
    assert session.stats().in_flight == 0
    assert "req_0" in caplog.text


@pytest.mark.virtual_time
@pytest.mark.parametrize("journal", [False, True])
async def test_a_submit_cancelled_after_the_session_was_left_is_reported_too(
    make_session, caplog, journal
):
    session = make_session(
        transport=FakeAPI(answer_after=20.0), journal=MemoryJournal() if journal else None
    )
    with pytest.raises(LookupError):
        async with session:
            submitting = asyncio.ensure_future(session.submit(REQUEST))
            await asyncio.sleep(0.5)
            raise LookupError
    await asyncio.sleep(12)
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    assert session.stats().in_flight == 0
    assert session.stats().counts[JobState.ABANDONED] == 1
    assert "req_0" in caplog.text


@pytest.mark.virtual_time
async def test_a_batch_cut_off_by_the_end_of_its_session_says_so(make_session):
    """Otherwise a shorter result would look like a whole one."""
    async with make_session(max_in_flight=2) as session:
        running = asyncio.ensure_future(session.run(prompts(50)))
        await asyncio.sleep(1)
    batch = await running
    assert len(batch) < 50
    assert batch.counts == {JobState.SUCCEEDED: len(batch)}
    assert "left" in str(batch.stopped_by)
    with pytest.raises(ExceptionGroup):
        batch.raise_for_failures()


@pytest.mark.virtual_time
async def test_whatever_fails_in_closing_all_is_let_go(make_session, api):
    class Unclosable(MemoryJournal):
        async def aclose(self):
            await super().aclose()
            raise JournalError("the disk failed")

    api.script["cancel"].append(ZeroDivisionError())
    journal = Unclosable()
    with pytest.raises((JournalError, ZeroDivisionError)):
        async with make_session(journal=journal, cancel_on_error=True) as session:
            await session.submit(REQUEST)
            raise LookupError
    assert api.closed
    assert "closed" in repr(journal)


@pytest.mark.virtual_time
async def test_a_batch_goes_on_with_a_job_that_was_attached_before(make_session, api):
    """Its key is taken by the job itself; it is neither bought again nor is its slot lost."""
    journal = MemoryJournal()
    async with make_session(journal=MemoryJournal()) as session:
        token = (await session.submit(REQUEST)).token
    api.jobs["req_0"] = asyncio.get_running_loop().time()
    async with make_session(transport=api, journal=journal, max_in_flight=1) as session:
        await session.attach(token)
        batch = await session.run([REQUEST, *prompts(2)])
        assert [job.request_id for job in batch] == ["req_0", "req_1", "req_2"]
        assert "0 in flight, <Poller 0 watched, 0 scheduled>" in repr(session)
    assert api.prompts["a river"] == 1


# --- another process, another loop ---------------------------------------------------------------


FORKING = """
import asyncio, os, sys
sys.path.insert(0, ".")
from seedance_async import GenerationRequest, SeedanceSession
from tests.support.fakes import FakeAPI

def refused(work):
    try:
        asyncio.run(work)
    except RuntimeError as error:
        assert "process and event loop" in str(error), error
        return True

async def main():
    async with SeedanceSession(api_key="k", base_url="https://a.example",
                               transport=FakeAPI(seconds=0.1)) as session:
        job = await session.submit(GenerationRequest("a river"))
        child = os.fork()
        if not child:
            tries = [session.submit(GenerationRequest("a lake")), session.attach("req_0"),
                     job.wait(), job.cancel(), session.run([GenerationRequest("a lake")])]
            os._exit(0 if all([refused(work) for work in tries[:4]]) else 1)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), (await job).status)

asyncio.run(main())
"""


async def test_a_forked_child_cannot_use_the_session_of_its_parent():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", FORKING, cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert out.decode().split() == ["0", "succeeded"], err.decode()


def elsewhere(work):
    """The outcome of a coroutine in a loop of another thread; this one does nothing meanwhile."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result(10)


@pytest.mark.virtual_time
async def test_a_job_is_waited_for_in_the_loop_of_its_session_only(make_session):
    """Elsewhere nobody would ever wake the waiter."""
    async with make_session() as session:
        job = await session.submit(REQUEST)
        for use in (job.wait, job.cancel):
            with pytest.raises(RuntimeError, match="event loop"):
                elsewhere(use())


# --- the network as it is ------------------------------------------------------------------------


@pytest.mark.virtual_time
async def test_an_outage_of_minutes_costs_a_batch_nothing_but_time(make_session, api):
    """Rows 1 to 3: nothing reached the server, however often it was tried."""
    async with make_session(max_in_flight=5) as session:
        await session.client.models()  # it was there before
        api.script["create"] += [TransportError("no route", delivered="no")] * 40
        batch = await session.run(prompts(10))
    assert batch.counts == {JobState.SUCCEEDED: 10}
    assert max(api.prompts.values()) == 1


@pytest.mark.virtual_time
async def test_after_an_outage_polls_come_back_within_the_rate_and_not_all_at_once(
    make_session, api
):
    times = []

    def noting(answer):
        async def note(request):
            times.append(asyncio.get_running_loop().time())
            return answer

        return note

    api.seconds = 100
    async with make_session(max_in_flight=50, poll_rate=10.0) as session:
        running = asyncio.ensure_future(session.run(prompts(50)))
        await asyncio.sleep(20)
        api.script["get"] += [noting(error_reply(503)) for _ in range(300)]
        batch = await running
    assert batch.counts == {JobState.SUCCEEDED: 50}
    for start in times:
        assert sum(start <= at < start + 1 for at in times) <= 11


@pytest.mark.virtual_time
async def test_an_unforeseen_error_of_the_transport_is_uncertain_and_reported_once(
    make_session, api
):
    async def break_down(_):
        raise ZeroDivisionError("a bug of the transport")

    api.script["create"].append(break_down)
    async with make_session() as session:
        with pytest.raises(SubmitUncertainError) as caught:
            await session.submit(REQUEST)
        assert (await session.generate(REQUEST)).status == "succeeded"
    assert str(caught.value).count("may have been accepted") == 1
    assert isinstance(caught.value, SeedanceError)


@pytest.mark.virtual_time
async def test_the_wall_clock_may_jump(make_session, api, monkeypatch):
    """Row 37: every wait is on the loop's clock."""
    api.script["create"].append(error_reply(429, retry_after="5"))
    monkeypatch.setattr(time, "time", lambda: 0.0)
    async with make_session() as session:
        began = asyncio.get_running_loop().time()
        await session.generate(REQUEST)
        assert 15 <= asyncio.get_running_loop().time() - began < 60


@pytest.mark.virtual_time
@pytest.mark.parametrize("answer", [error_reply(500), error_reply(404), error_reply(409)])
async def test_an_ambiguous_cancellation_is_settled_by_the_polls(make_session, api, answer):
    """Row 63: asked again where that helps, and the end is what the server tells."""
    api.script["cancel"].append(answer)
    async with make_session() as session:
        job = await session.submit(REQUEST)
        await job.cancel()
        with contextlib.suppress(SeedanceError):
            await job
    assert job.state in (JobState.CANCELLED, JobState.SUCCEEDED)


@pytest.mark.virtual_time
async def test_a_blocked_loop_is_reported(make_session, api, caplog):
    async with make_session(poll=Backoff(initial=1.0, maximum=1.0, jitter=0)) as session:
        job = await session.submit(GenerationRequest("x"))
        asyncio.get_running_loop().block(3.0)
        await job
        assert session.stats().loop_lag == pytest.approx(2.0, abs=0.1)
    assert "the event loop was blocked for 2.0 seconds" in caplog.text


@pytest.mark.virtual_time
async def test_a_loop_that_is_in_time_has_no_lag(make_session, api):
    async with make_session() as session:
        assert session.stats().loop_lag == 0.0
