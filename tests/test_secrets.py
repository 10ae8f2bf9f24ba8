"""The key is seen by the API alone, a signed URL by its own host: not by logs, errors or files."""

import asyncio
import contextlib
import copy
import json
import logging
import os
import pickle
import random
import re
import sys
import traceback

import pytest

from seedance_async import (
    AiohttpTransport,
    ConfigurationError,
    DownloadError,
    GenerationRequest,
    JournalError,
    RetryPolicy,
    SeedanceClient,
    SeedanceError,
    SeedanceSession,
    Timeouts,
)
from seedance_async.api.options import Endpoint
from seedance_async.emulator import Emulator, EmulatorOptions, Fault
from seedance_async.journal import PostgresJournal
from tests.conftest import KEY, QUICK_POLL, QUICK_RETRY, SEED
from tests.support.downloads import VIDEO
from tests.support.fakes import LOST, error_reply, reply
from tests.support.for_each import for_each
from tests.support.raw_server import RawServer
from tests.support.tcp_proxy import TCPProxy

SIGNATURE = "a-signature-that-opens-the-video"
REQUEST = GenerationRequest("a river", duration=4, resolution="480p")
ACCEPTED = json.dumps({"success": True, "requestId": "req_1", "status": "queued",
                       "creditsCharged": 40}).encode()  # fmt: skip


def told(url):
    output = {"type": "video", "url": url}
    body = {"success": True, "requestId": "req_1", "status": "succeeded", "output": output}
    return json.dumps({**body, "error": None}).encode()


def all_of(error):
    """Whatever can be shown of an error and of those behind it."""
    shown = ["".join(traceback.format_exception(error)), *pickles(error)]
    while error is not None:
        shown += [str(error), repr(error), repr(error.args), repr(vars(error))]
        error = error.__cause__ or error.__context__
    return "\n".join(shown)


def pickles(*things):
    return [pickle.dumps(thing).decode("latin-1") for thing in things]


def check_unseen(text, *secrets):
    for secret in secrets or (KEY, SIGNATURE):
        assert secret not in text


@pytest.fixture
def everything_logged(caplog):
    """All that any logger says, at DEBUG, and the event loop's own debugging."""
    caplog.set_level(logging.DEBUG)
    return caplog


@contextlib.asynccontextmanager
async def session_to(url, **options):
    options.setdefault("timeouts", Timeouts(submit=0.5, request=0.5, submit_grace=0.2))
    options.setdefault("retry", QUICK_RETRY)
    rng = random.Random(SEED)
    async with SeedanceSession(
        base_url=url, api_key=KEY, poll=QUICK_POLL, poll_rate=1000.0, rng=rng, **options
    ) as session:
        yield session


def answering(*answers):
    """A server's behaviour: the answers in turn, the last one again and again."""
    left = list(answers)

    async def behave(connection):
        while True:
            await connection.read_request()
            answer = left.pop(0) if len(left) > 1 else left[0]
            if callable(answer):
                return await answer(connection)
            await connection.answer(*answer)

    return behave


async def cut(connection):
    connection.reset()


async def garbage(connection):
    await connection.send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


async def huge_headers(connection):
    await connection.answer("200 OK", b"{}", "X-Padding: " + "x" * 100_000)


def echoing(status):
    """An answer of a server that tells the caller its own key."""
    body = {"success": False, "error": {"code": KEY, "message": f"not with {KEY}"}}
    return status, json.dumps(body).encode(), f"X-Echo: {KEY}"


FAILING = [
    *[echoing(status) for status in ("400 B", "401 U", "402 P", "403 F", "404 N", "409 C")],
    *[echoing(status) for status in ("422 U", "500 I", "502 B", "302 F", "200 OK")],
    ("200 OK", f"<html>{KEY}</html>".encode(), "Content-Type: text/html"),
    ("302 Found", b"", f"Location: https://elsewhere.example/{KEY}"),
    cut,
    garbage,
    huge_headers,
]


@pytest.mark.parametrize("answer", FAILING, ids=[str(n) for n in range(len(FAILING))])
async def test_no_error_of_any_endpoint_shows_the_key(everything_logged, answer):
    asyncio.get_running_loop().set_debug(True)
    shown = []
    retry = RetryPolicy(attempts=1, timeout=0.01)
    async with (
        RawServer(answering(answer)) as server,
        SeedanceClient(KEY, server.url, retry=retry, timeouts=Timeouts(submit=1, request=1)) as api,
    ):
        for call in (api.create(REQUEST), api.get("req_1"), api.cancel("req_1"), api.models()):
            with pytest.raises(SeedanceError) as caught:
                await call
            shown.append(all_of(caught.value))
            shown += pickles(copy.copy(caught.value))
        assert all(KEY.encode() in request for request in server.received), "the API itself sees it"
        shown += [repr(api), repr(api.transport), repr(api.submit_gate)]
    check_unseen("\n".join([*shown, everything_logged.text]))


async def test_the_key_is_shown_by_nothing_that_a_run_leaves(everything_logged, tmp_path):
    asyncio.get_running_loop().set_debug(True)
    path = tmp_path / "run.db"
    options = EmulatorOptions(speed=2000, seed=SEED, media="shared")
    shown = []
    async with Emulator(options) as emulator:
        real_key = emulator.api_key
        async with SeedanceSession(
            base_url=emulator.url, api_key=real_key, poll=QUICK_POLL, poll_rate=2000.0,
            retry=QUICK_RETRY, journal=path, max_credits=100_000,
        ) as session:  # fmt: skip
            await session.generate(REQUEST)  # its price is known now
            for kind in ("drop_after_accept", "500", "html"):
                emulator.faults.script("submit", kind)
            batch = await session.run(
                GenerationRequest(f"p {n}", duration=4, resolution="480p") for n in range(8)
            )
            await batch.succeeded[0].download(tmp_path)
            emulator.faults.script("media", "expired", times=2)
            with pytest.raises(DownloadError) as caught:
                await batch.succeeded[1].download(tmp_path / "x.mp4")
            files = b"".join(file.read_bytes() for file in tmp_path.glob("run.db*"))
            shown += [files.decode("latin-1"), all_of(caught.value)]
            shown += [repr(session), repr(session.stats()), repr(session.registry)]
            shown += [repr(session.client), repr(session._options), repr(session.client.transport)]
            shown += [repr(batch), *map(repr, batch), *(job.token for job in batch.succeeded)]
            shown += [all_of(job.error) for job in batch.failures]
            shown += pickles(*batch)
        assert not any(request.carried_credentials for request in emulator.media_requests)
    shown.append(b"".join(f.read_bytes() for f in tmp_path.glob("run.db*")).decode("latin-1"))
    assert len(batch.failures) == 3
    check_unseen("\n".join([*shown, everything_logged.text]), real_key, KEY)


# --- redirects -----------------------------------------------------------------------------------


async def test_neither_redirects_nor_output_urls_take_the_key_to_another_origin(tmp_path):
    async def elsewhere(connection):
        await connection.read_request()
        await connection.answer("200 OK", VIDEO)

    async with RawServer(elsewhere) as other:
        redirect = ("302 Found", b"", f"Location: {other.url}/stolen")
        video = told(f"{other.url}/v.mp4")
        behave = answering(redirect, ("200 OK", ACCEPTED), redirect, ("200 OK", video))
        async with RawServer(behave) as server, session_to(server.url) as session:
            with pytest.raises(SeedanceError):
                await session.submit(REQUEST)
            job = await session.submit(REQUEST)
            await job.download(tmp_path / "v.mp4")
        assert [request.split()[1] for request in other.received] == [b"/v.mp4"]
        assert not any(re.search(rb"(?i)authorization|bearer", r) for r in other.received)
        assert not any(KEY.encode() in request for request in other.received)


# --- signed output URLs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "media",
    [("200 OK", VIDEO), ("403 F", b""), ("500 I", b""),
     ("200 OK", b"<html>", "Content-Type: text/html"),
     ("302 Found", b"", f"Location: ftp://x.example/?{SIGNATURE}"),
     ("302 Found", b"", f"Location: http://[x?{SIGNATURE}"), cut, garbage, huge_headers],
    ids=["whole", "403", "500", "html", "redirect", "odd redirect", "cut", "garbage", "headers"],
)  # fmt: skip
async def test_the_signature_of_a_video_is_in_no_log_error_or_journal(
    everything_logged, tmp_path, media
):
    asyncio.get_running_loop().set_debug(True)
    shown = []
    async with RawServer(answering(media)) as videos:
        video = told(f"{videos.url}/v.mp4?sig={SIGNATURE}")
        behave = answering(("200 OK", ACCEPTED), ("200 OK", video))
        async with (
            RawServer(behave) as server,
            session_to(server.url, journal=tmp_path / "run.db") as session,
        ):
            job = await session.submit(REQUEST)
            await job
            try:
                await job.download(tmp_path / "v.mp4")
            except DownloadError as error:
                shown.append(all_of_but_the_job(error))
            shown += [repr(job), job.token, repr(session), repr(session.stats())]
        assert any(SIGNATURE.encode() in request for request in videos.received)
    shown += [file.read_bytes().decode("latin-1") for file in tmp_path.glob("run.db*")]
    check_unseen("\n".join([*shown, everything_logged.text]))


def all_of_but_the_job(error):
    assert isinstance(error, DownloadError)
    return all_of(error)


# --- the password of a database -------------------------------------------------------------------

PASSWORD = "a-password-of-a-database"


async def test_the_password_of_a_journals_database_is_shown_by_nothing(
    everything_logged, postgres, monkeypatch
):
    asyncio.get_running_loop().set_debug(True)
    monkeypatch.setattr("seedance_async.journal.postgres.writer.OPENING_SECONDS", 0)
    monkeypatch.setattr("seedance_async.journal.postgres.writer.CLOSING_SECONDS", 0.1)
    shown = []
    for dsn in (
        f"postgresql://u:{PASSWORD}@[::1/db",
        f"postgresql://u:{PASSWORD}@h:1/db?nonsense=1",
        f"host=h password={PASSWORD} user",
    ):
        with pytest.raises(ValueError, match="the DSN of the journal") as caught:
            PostgresJournal(dsn)
        shown += [all_of(caught.value)]
    for dsn in (
        postgres.dsn("none", user="someone-else", password=PASSWORD),
        f"postgresql://u:{PASSWORD}@127.0.0.1:1/db",
    ):
        journal = PostgresJournal(dsn)
        with pytest.raises(JournalError) as caught:
            await journal.open()
        shown += [all_of(caught.value), repr(journal), repr(vars(journal))]
        with pytest.raises(TypeError):
            pickle.dumps(journal)
    postgres.new_role("secretive", PASSWORD)
    database = postgres.new_database()
    postgres.execute(f"GRANT CREATE ON DATABASE {database} TO secretive")
    with TCPProxy(postgres.port) as network:
        dsn = postgres.dsn(database, user="secretive", password=PASSWORD)
        journal = PostgresJournal(
            dsn.replace(f":{postgres.port}/", f":{network.port}/"), patience=0.1
        )
        await journal.open()
        network.cut()
        with pytest.raises(JournalError) as caught:
            await journal.entries()
        shown += [all_of(caught.value), repr(vars(journal)), repr(vars(journal._writer))]
        await journal.aclose()
    rows = postgres.execute("SELECT t::text FROM seedance.owners AS t", database=database)
    check_unseen("\n".join([*shown, everything_logged.text, repr(rows)]), PASSWORD)


# --- what is made to be looked at ----------------------------------------------------------------


@for_each("make", [SeedanceClient, SeedanceSession])
@for_each(
    "bad",
    [
        {"max_connections": 0},
        {"base_url": "http://api.example"},
        {"api_key": KEY + "\n"},
        {"transport": "carrier pigeon"},
    ],
)
def test_a_bad_option_shows_the_key_in_no_local_variable_of_a_traceback(make, bad):
    def fail(options):
        options = {"api_key": KEY, "base_url": "https://api.example"} | options
        with pytest.raises(ConfigurationError) as caught:
            make(**options)
        return caught.value

    trace = fail(bad).__traceback__.tb_next  # without the caller's own frame
    assert trace is not None
    while trace is not None:
        check_unseen(repr(trace.tb_frame.f_locals), KEY)
        trace = trace.tb_next


def test_an_endpoint_and_its_transport_do_not_show_the_key():
    endpoint = Endpoint("https://api.example", KEY)
    shown = [repr(endpoint), str(endpoint), f"{endpoint}", repr(AiohttpTransport(endpoint))]
    check_unseen("\n".join(shown))


@pytest.mark.virtual_time
async def test_the_error_of_a_job_that_is_pickled_and_unpickled_shows_no_key(make_session, api):
    api.script["create"] += [LOST, error_reply(400, message=KEY[:0]), reply(200, b"<html>")]
    async with make_session() as session:
        batch = await session.run([REQUEST] * 4)
    for job in batch:
        again = pickle.loads(pickle.dumps(job))
        check_unseen(repr(again) + repr(vars(again.error) if again.error else ""))


async def run_command(*arguments, env):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "seedance_async.cli", *arguments, env=env,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode, (out + err).decode()


async def test_the_command_line_shows_no_key_however_talkative(tmp_path):
    options = EmulatorOptions(speed=2000, seed=SEED, media="shared")
    async with Emulator(options) as emulator:
        env = os.environ | {"SEEDANCE_BASE_URL": emulator.url, "SEEDANCE_API_KEY": emulator.api_key}
        for more in ([], ["--json"]):
            folder = tmp_path / f"out{len(more)}"
            folder.mkdir()
            code, shown = await run_command(
                "generate", "a river", "--duration", "4", "-o", str(folder), *more, env=env
            )
            assert code == 0, shown
            check_unseen(shown, emulator.api_key)
        emulator.faults.script("submit", Fault("500", accepted=False))
        code, shown = await run_command("generate", "a lake", "--yes", "-o", str(tmp_path), env=env)
        assert code != 0
        check_unseen(shown, emulator.api_key)
        wrong = env | {"SEEDANCE_API_KEY": KEY}
        code, shown = await run_command("models", env=wrong)
        assert code != 0
        check_unseen(shown)


@for_each("make", [lambda e: e, AiohttpTransport])
def test_what_holds_the_key_is_never_pickled(make):
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(make(Endpoint("https://api.example", KEY)))
