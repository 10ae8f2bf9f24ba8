"""The web applications of the examples: a real server process, a real client, a real SIGTERM."""

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from seedance_async.emulator import Emulator, EmulatorOptions
from seedance_async.journal import read_entries

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(params=["web_app.py", "web_app_aiohttp.py"])
def program(request):
    return EXAMPLES / request.param


@pytest.fixture
async def emulator():
    options = EmulatorOptions(hold=True, media="shared", gpus=100)
    async with Emulator(options) as running:
        yield running


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


class WebApp:
    """One process of an application, and a client of it."""

    def __init__(self, process, port):
        self.process = process
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30)

    async def start(self, prompt, **more):
        answer = await self.http.post("/videos", json={"prompt": prompt, "duration": 4, **more})
        assert answer.status_code == 202, answer.text
        assert answer.json()["state"] == "queued"
        return answer.json()["id"]

    async def events(self, request_id):
        async with self.http.stream("GET", f"/videos/{request_id}/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                if line:
                    yield json.loads(line.removeprefix("data: "))

    async def last_event(self, request_id):
        return [event async for event in self.events(request_id)][-1]

    async def terminate(self, signal_number=signal.SIGTERM):
        """Seconds that a SIGTERM takes, or another signal."""
        began = asyncio.get_running_loop().time()
        self.process.send_signal(signal_number)
        await self.process.wait()
        return asyncio.get_running_loop().time() - began


@asynccontextmanager
async def running(program, emulator, folder):
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), str(port),
        cwd=folder,
        env=os.environ | {
            "SEEDANCE_BASE_URL": emulator.url,
            "SEEDANCE_API_KEY": emulator.api_key,
            "PUBLIC_URL": f"http://127.0.0.1:{port}",
        },
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    app = WebApp(process, port)
    try:
        while b"unning on http" not in (line := await process.stdout.readline()):
            assert line, "it did not start"
        output = asyncio.create_task(process.stdout.read())
        async with app.http:
            yield app
        if process.returncode is None:
            await app.terminate()
        app.output = (await output).decode()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_job_is_started_followed_and_read(program, emulator, tmp_path):
    async with running(program, emulator, tmp_path) as app:
        request_id = await app.start("A river")
        events = app.events(request_id)
        first = await anext(events)
        assert (first["state"], first["position"], first["url"]) == ("queued", 1, None)
        listed = (await app.http.get("/videos")).json()
        assert listed == [{"id": request_id, "state": "queued"}]
        emulator.jobs.start(request_id)
        assert (await anext(events))["state"] == "processing"
        emulator.jobs.finish(request_id)
        last = [event async for event in events][-1]
        assert last["state"] == "succeeded"
        assert last["url"].endswith(".mp4")
        read = (await app.http.get(f"/videos/{request_id}", params={"wait": 30})).json()
        assert read == {"id": request_id, "state": "succeeded", "url": last["url"]}
    assert [delivery.status for delivery in emulator.webhooks] == [200]
    assert "Traceback" not in app.output


async def test_a_job_is_cancelled_and_whoever_follows_it_is_told(program, emulator, tmp_path):
    async with running(program, emulator, tmp_path) as app:
        request_id = await app.start("A river")
        events = app.events(request_id)
        await anext(events)
        assert (await app.http.delete(f"/videos/{request_id}")).status_code == 202
        assert [event["state"] async for event in events][-1] == "cancelled"


async def test_mistakes_of_the_client_are_told_it(program, emulator, tmp_path):
    async with running(program, emulator, tmp_path) as app:
        bad = await app.http.post("/videos", json={"prompt": "A river", "duration": 99})
        assert bad.status_code == 422
        assert "duration" in bad.text
        for path in ("/videos/req_unknown", "/videos/req_unknown/events"):
            assert (await app.http.get(path)).status_code == 404
        assert (await app.http.delete("/videos/req_unknown")).status_code == 404
    assert len(emulator.jobs) == 0


async def test_a_sigterm_leaves_forty_jobs_and_the_next_start_takes_them_up(
    program, emulator, tmp_path
):
    async with running(program, emulator, tmp_path) as app:
        started = await asyncio.gather(*(app.start(f"prompt {number}") for number in range(40)))
        following = [app.events(request_id) for request_id in started[:5]]
        for events in following:
            await anext(events)
        assert await app.terminate() < 5
        for events in following:
            await events.aclose()
    entries = {entry.request_id: entry.state for entry in read_entries(tmp_path / "videos.db")}
    assert entries == dict.fromkeys(started, "abandoned")
    async with running(program, emulator, tmp_path) as app:
        listed = (await app.http.get("/videos")).json()
        assert {job["id"] for job in listed} == set(started)
        for request_id in started:
            emulator.jobs.start(request_id)
            emulator.jobs.finish(request_id)
        ended = await asyncio.gather(*map(app.last_event, started))
        assert {event["state"] for event in ended} == {"succeeded"}
        assert await app.terminate() < 5
    entries = {entry.request_id: entry.state for entry in read_entries(tmp_path / "videos.db")}
    assert entries == dict.fromkeys(started, "succeeded")
    assert len(emulator.jobs) == 40


async def test_what_a_killed_process_has_left_is_taken_up(program, emulator, tmp_path):
    async with running(program, emulator, tmp_path) as app:
        started = await asyncio.gather(*(app.start(f"prompt {number}") for number in range(5)))
        await app.terminate(signal.SIGKILL)
    async with running(program, emulator, tmp_path) as app:
        listed = (await app.http.get("/videos")).json()
        assert {job["id"] for job in listed} == set(started)
    assert len(emulator.jobs) == 5
