"""A process that is stopped for longer than its submits may take, as by Ctrl-Z."""

import asyncio
import signal
import sys
import time

import aiohttp
import pytest

from seedance_async.emulator import Fault

pytestmark = pytest.mark.asyncio(loop_scope="module")

SUBMITS = 50
SECONDS = 1.5  # that a submit may take

PROGRAM = f"""
import asyncio, sys
from seedance_async import GenerationRequest, SeedanceSession, Timeouts

async def main():
    options = dict(max_in_flight={SUBMITS}, max_connections={SUBMITS}, journal=sys.argv[2])
    async with SeedanceSession(timeouts=Timeouts(submit={SECONDS}), **options) as session:
        requests = (GenerationRequest(f"{{sys.argv[1]}} {{n}}") for n in range({SUBMITS}))
        batch = await session.run(requests)
        print(len(batch.uncertain), len(batch.succeeded))

asyncio.run(main())
"""


def charged(emulator, name):
    """How often the emulator has charged this program."""
    return sum(
        count
        for prompt, count in emulator.ledger.charged_prompts().items()
        if prompt.startswith(f"{name} ")
    )


async def ask(emulator, seconds):
    """A call that the emulator answers after so many seconds: time passes, whoever is stopped."""
    emulator.faults.script("models", Fault("latency", seconds=seconds))
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    async with (
        aiohttp.ClientSession(emulator.url, headers=headers) as http,
        http.get("/api/open/v1/models") as response,
    ):
        assert response.status == 200


@pytest.mark.skipif(sys.platform == "win32", reason="no process is stopped there")
@pytest.mark.parametrize("transport", ["aiohttp", "direct"])
async def test_answers_that_came_while_the_process_was_stopped_are_taken(
    emulator, tmp_path, transport
):
    name = tmp_path.name
    emulator.faults.script(
        "submit", "latency seconds=0.3 accepted=true", match=f"{name} ", times=SUBMITS
    )
    program = PROGRAM.replace("journal=", f"transport={transport!r}, journal=")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, name, str(tmp_path / "run.db")),
        env={"SEEDANCE_BASE_URL": emulator.url, "SEEDANCE_API_KEY": emulator.api_key},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        await emulator.wait_until(lambda: charged(emulator, name) == SUBMITS)
        process.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        while time.monotonic() < stopped + 1.2 * SECONDS:
            await ask(emulator, SECONDS)
        process.send_signal(signal.SIGCONT)
        shown, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert shown.decode().split() == ["0", f"{SUBMITS}"]
    assert charged(emulator, name) == SUBMITS
