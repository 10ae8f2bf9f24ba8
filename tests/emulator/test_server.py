"""The server: it starts, stops, and can be inspected and controlled from another process."""

import asyncio
import inspect
import json
import os
import signal
import sys
from pathlib import Path

import aiohttp
import pytest

import seedance_async.emulator as package
from seedance_async.emulator import Emulator, EmulatorOptions, Fault, run, serve

from .conftest import BODY, SEED, Api, Start


async def test_the_repr_has_the_url_and_the_seed(api: Api) -> None:
    assert api.emulator.url.startswith("http://127.0.0.1:")
    assert repr(api.emulator).startswith(f"<Emulator {api.emulator.url} seed={SEED} ")
    assert repr(Emulator()) == "<Emulator not started, seed=0 speed=1 gpus=8>"


async def test_an_emulator_that_is_not_started_has_no_url() -> None:
    with pytest.raises(RuntimeError, match="has not been started"):
        _ = Emulator().url
    assert Emulator().media_requests == []


async def test_an_emulator_starts_only_once_and_can_be_stopped_again() -> None:
    emulator = Emulator()
    await emulator.start()
    with pytest.raises(RuntimeError, match="starts only once"):
        await emulator.start()
    await emulator.stop()
    await emulator.stop()


async def test_a_failed_start_leaves_nothing_open(api: Api, tmp_path: Path) -> None:
    port = int(api.emulator.url.rpartition(":")[2])
    second = Emulator(EmulatorOptions(port=port, ledger_path=tmp_path / "ledger"))
    with pytest.raises(OSError, match="address already in use"):
        await second.start()


async def test_the_records_can_be_read_after_the_stop(api: Api) -> None:
    await api.submit()
    await api.emulator.stop()
    assert len(api.emulator.ledger) == 1
    assert api.emulator.stats()["charged"] == 1


async def test_a_stop_does_not_wait_for_slow_responses(api: Api) -> None:
    api.emulator.faults.script("models", Fault("latency", seconds=60))
    asking = asyncio.create_task(api.models())
    await api.emulator.wait_until(lambda: True)
    await asyncio.sleep(0)
    await asyncio.wait_for(api.emulator.stop(), 5)
    with pytest.raises(Exception, match=r".*"):
        await asking


async def test_requests_are_counted_and_recent_ones_are_kept(api: Api) -> None:
    request_id = await api.accepted()
    await api.poll(request_id)
    await api.poll("req_nobody")
    log = api.emulator.requests
    assert log.count("poll") == 2
    assert log.count("poll", 404) == 1
    last = log.recent[-1]
    assert (last.operation, last.method, last.status, last.fault) == ("poll", "GET", 404, None)
    assert last.path.endswith("/req_nobody")
    assert repr(log) == "<RequestLog submit 200: 1, poll 200: 1, poll 404: 1>"


async def test_the_ledger_and_the_stats_can_be_read_over_http(start: Start) -> None:
    api = await start(refund_failed=True)
    request_id = await api.accepted()
    await api.submit()
    await api.submit(model="unheard-of")
    await api.cancel(request_id)
    api.emulator.faults.script("models", "drop_after_accept", times=2)
    with pytest.raises(Exception, match="disconnected"):
        await api.models()
    ledger = (await api.call("GET", "/_emulator/ledger")).data
    assert [entry["outcome"] for entry in ledger["entries"]] == ["charged", "charged", "invalid"]
    assert ledger["entries"][0]["body"] == BODY
    assert [refund["request_id"] for refund in ledger["refunds"]] == [request_id]
    stats = (await api.call("GET", "/_emulator/stats")).data
    assert stats == {
        "seed": SEED,
        "jobs": 2,
        "active": 1,
        "peak_active": 2,
        "peak_processing": 0,
        "by_status": {"queued": 1, "cancelled": 1},
        "requests": {
            "submit": {"200": 2, "400": 1},
            "cancel": {"200": 1},
            "models": {"dropped": stats["requests"]["models"]["dropped"]},
        },
        "faults": {"models drop_after_accept": stats["requests"]["models"]["dropped"]},
        "submits": 3,
        "charged": 2,
        "credits_charged": 80,
        "duplicates": {BODY["prompt"]: 2},
    }


async def test_faults_can_be_set_over_http(api: Api) -> None:
    async def set_fault(**command: object) -> int:
        return (await api.call("POST", "/_emulator/faults", json=command)).status

    assert await set_fault(operation="models", fault="502") == 200
    assert await set_fault(operation="models", fault={"kind": "500", "seconds": 0.01}) == 200
    assert [(await api.models()).status for _ in range(3)] == [502, 500, 200]
    assert await set_fault(operation="submit", fault="504", match="river", times=2) == 200
    statuses = [(await api.submit(prompt=each)).status for each in ("sea", "a river", "river")]
    assert statuses == [200, 504, 504]
    assert await set_fault(operation="models", rates={"503": 1.0}) == 200
    assert (await api.models()).status == 503
    assert await set_fault(clear=True) == 200
    assert (await api.models()).status == 200


async def test_an_invalid_fault_command_is_a_400(api: Api) -> None:
    for command in (
        b"{",
        b"[]",
        b'"text"',
        b'{"fault": "502"}',
        b'{"operation": "models", "fault": "meteor"}',
        b'{"operation": "models", "fault": {"colour": 1}}',
        b'{"operation": "models", "rates": 7}',
        b'{"operation": "models", "fault": {"kind": "latency", "seconds": "long"}}',
        b'{"operation": "models", "fault": {"kind": "huge_body", "size": null}}',
    ):
        reply = await api.call("POST", "/_emulator/faults", data=command)
        assert reply.status == 400, command
        assert reply.data["ok"] is False


def test_options_that_make_no_sense_are_refused() -> None:
    options = {
        "gpus": 0,
        "speed": 0,
        "median_seconds": -1,
        "media": "pirated",
        "submit_rate": 0,
        "max_active": 0,
        "media_ttl": 0,
        "unknown_fields": "kept",
    }
    for name, value in options.items():
        with pytest.raises(ValueError, match=name):
            EmulatorOptions(**{name: value})


async def test_serve_reports_when_it_is_ready_and_ends_when_cancelled() -> None:
    found: list[Emulator] = []
    ready = asyncio.Event()

    def note(emulator: Emulator) -> None:
        found.append(emulator)
        ready.set()

    async def note_later(emulator: Emulator) -> None:
        note(emulator)

    for callback in (note, note_later):
        ready.clear()
        serving = asyncio.create_task(serve(EmulatorOptions(), callback))
        await ready.wait()
        assert found[-1].url.startswith("http://")
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving


async def test_serve_needs_no_callback(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    serving = asyncio.create_task(serve(EmulatorOptions(ledger_path=path)))
    for _ in range(1000):
        await asyncio.sleep(0)
    assert path.exists()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_blocking_run_ends_cleanly_at_a_signal(number: signal.Signals) -> None:
    def ready(emulator: Emulator) -> None:
        os.kill(os.getpid(), number)

    assert run(EmulatorOptions(), ready) is None


async def test_an_emulator_in_another_process_leaves_its_ledger(tmp_path: Path) -> None:
    code = (
        "import sys; from seedance_async.emulator import *; "
        "run(EmulatorOptions(ledger_path=sys.argv[1], hold=True), "
        "lambda emulator: print(emulator.url, flush=True))"
    )
    path = tmp_path / "ledger.jsonl"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        code,
        str(path),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    async with aiohttp.ClientSession() as http:
        headers = {"Authorization": "Bearer sd2_live_emulator"}
        async with http.post(
            url + "/api/open/v1/video/generations", json=BODY, headers=headers
        ) as answer:
            assert answer.status == 200
    process.kill()
    _, errors = await process.communicate()
    assert errors == b""
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["prompt"] == BODY["prompt"]


def test_the_public_names_are_there_and_documented() -> None:
    for name in package.__all__:
        found = getattr(package, name)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert inspect.getdoc(found), name
    assert list(package.__all__) == sorted(
        package.__all__, key=lambda n: (not n.isupper(), n[0].islower(), n)
    )


def test_the_emulator_imports_nothing_of_the_sdk() -> None:
    for path in Path(package.__file__).parent.glob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                ours = words[1].startswith("seedance_async.emulator")
                assert ours or not words[1].startswith(("seedance_async", ".")), line
