"""A session refuses other event loops and threads at once, whatever is called."""

import asyncio

import pytest

from seedance_async import GenerationRequest
from tests.support.fakes import FakeAPI

REQUEST = GenerationRequest("a river")


@pytest.fixture
def api():
    return FakeAPI(seconds=1e6)


CALLS = {
    "submit": lambda session, job: session.submit(REQUEST),
    "generate": lambda session, job: session.generate(REQUEST),
    "run": lambda session, job: session.run([REQUEST]),
    "as_completed": lambda session, job: anext(session.as_completed([REQUEST])),
    "attach": lambda session, job: session.attach("req_1"),
    "resume": lambda session, job: session.resume(),
    "aclose": lambda session, job: session.aclose(),
    "wait": lambda session, job: job.wait(),
    "cancel": lambda session, job: job.cancel(),
    "updates": lambda session, job: anext(job.updates()),
}
PLAIN_CALLS = {
    "jobs": lambda session, job: session.jobs(),
    "stop_submitting": lambda session, job: session.stop_submitting(ValueError()),
    "updates": lambda session, job: job.updates(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_another_loop_is_refused_at_once(make_session, api, call):
    session = await make_session().open()
    job = await session.submit(REQUEST)

    async def elsewhere():
        return await call(session, job)

    with pytest.raises(RuntimeError, match="event loop"):
        await asyncio.to_thread(asyncio.run, elsewhere())
    assert api.count("create") == 1
    await session.aclose(leave=True)


@pytest.mark.parametrize("call", PLAIN_CALLS.values(), ids=PLAIN_CALLS)
async def test_a_thread_is_refused_at_once_and_told_what_to_use(make_session, call):
    session = await make_session().open()
    job = await session.submit(REQUEST)
    with pytest.raises(RuntimeError, match="run_coroutine_threadsafe"):
        await asyncio.to_thread(call, session, job)
    await session.aclose(leave=True)
