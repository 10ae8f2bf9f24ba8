"""The observability example, against an emulator: what it prints is what happened."""

import json
from pathlib import Path

from seedance_async import GenerationRequest, SeedanceSession, VideoSaved
from seedance_async.emulator import Emulator, EmulatorOptions
from tests.conftest import QUICK_POLL, SEED
from tests.test_examples import run

ROOT = Path(__file__).parents[1]
PROMPTS = ROOT / "examples" / "prompts.txt"


async def test_it_prints_every_event_one_span_per_job_and_the_metrics(tmp_path):
    async with Emulator(EmulatorOptions(speed=1000, seed=SEED, media="shared")) as emulator:
        example = ROOT / "examples" / "observe.py"
        code, out, err = await run(emulator, example, PROMPTS, cwd=tmp_path)
        charged = sum(emulator.ledger.charged_prompts().values())
        key = emulator.api_key
    assert code == 0, err
    prompts = PROMPTS.read_text(encoding="utf-8").splitlines()
    events = [json.loads(line)["event"] for line in err.splitlines()]
    for kind in ("JobSubmitted", "JobAccepted", "JobSucceeded"):
        assert events.count(kind) == len(prompts) == charged
    assert out.count('"name": "generate_content seedance-2.0"') == len(prompts)
    assert "gen_ai.client.operation.duration" in out
    assert "polls per job: " in out
    for secret in (*prompts, key):
        assert secret not in out + err


async def test_a_saved_video_is_an_event_once_the_file_is_complete(tmp_path):
    saved = []

    def listen(event):
        if isinstance(event, VideoSaved):
            saved.append((event, event.path.stat().st_size))

    async with (
        Emulator(EmulatorOptions(speed=600, seed=SEED, media="shared")) as emulator,
        SeedanceSession(
            api_key=emulator.api_key, base_url=emulator.url, poll=QUICK_POLL, on_event=listen
        ) as session,
    ):
        job = await session.submit(GenerationRequest("a river", duration=4, resolution="480p"))
        path = await job.download(tmp_path)
    ((event, size),) = saved
    assert (event.path, event.size, event.request_id) == (path, size, job.request_id)
