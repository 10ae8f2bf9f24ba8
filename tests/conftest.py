"""What all tests share: virtual time on request, and no task left behind by any of them."""

import asyncio
import gc
import inspect
import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seedance_async import Backoff, RetryPolicy, SeedanceClient, SeedanceSession
from tests.support.fakes import FakeAPI
from tests.support.virtual_time import VirtualTimeLoop

pytest_plugins = ["seedance_async.testing", "pytester", "tests.support.postgres"]

# The same examples in every run; HYPOTHESIS_PROFILE=searching looks for new ones. How long an
# example takes says something of the machine alone.
settings.register_profile(
    "certain", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "searching", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "certain"))

#: One seed for all jitter in tests, told in the header of every run.
SEED = 20260
KEY = "sd2_live_a_key_that_must_never_be_seen"


def pytest_report_header():
    return f"seed of the SDK's jitter: {SEED}"


@settings(max_examples=1, database=None)
@given(st.none())
def _first_example(_):
    """Has Hypothesis set up what it keeps for all later examples."""


def pytest_collection_finish():
    """What is loaded by now stays: the collections after each test need not look at it again.

    Hypothesis looks for who refers to its source of randomness when it makes its first example,
    and would not find a frozen object: so it makes one before.
    """
    _first_example()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_state(monkeypatch, tmp_path_factory):
    """What the command line keeps of a test is not kept among the user's own."""
    monkeypatch.setenv("SEEDANCE_STATE_DIR", str(tmp_path_factory.getbasetemp() / "state"))
    monkeypatch.setenv("SEEDANCE_CONFIG_DIR", str(tmp_path_factory.getbasetemp() / "config"))


def pytest_asyncio_loop_factories(config, item):
    if item.get_closest_marker("virtual_time"):
        return {"virtual": VirtualTimeLoop}
    return {"real": asyncio.SelectorEventLoop}


@pytest.fixture(autouse=True)
def _leaves_nothing(request):
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("no_task_is_left")


@pytest.fixture
async def no_task_is_left():
    """Every async test leaves the event loop as it found it."""
    yield
    gc.collect()
    for _ in range(3):
        await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not left


@pytest.fixture
def api():
    return FakeAPI()


@pytest.fixture
def make_client(api):
    def make(**options):
        options.setdefault("transport", api)
        return SeedanceClient(KEY, "https://api.example", rng=random.Random(SEED), **options)

    return make


@pytest.fixture
def make_session(api):
    def make(**options):
        options.setdefault("transport", api)
        options.setdefault("rng", random.Random(SEED))
        options.setdefault("poll_rate", 1000.0)
        options.setdefault("base_url", "https://api.example")
        return SeedanceSession(api_key=KEY, **options)

    return make


#: Policies for tests on real time: quick, but of the same shape as the defaults.
QUICK_RETRY = RetryPolicy(
    attempts=5, timeout=20.0, backoff=Backoff(initial=0.02, maximum=0.1, jitter=1.0)
)
QUICK_POLL = Backoff(initial=0.02, multiplier=1.5, maximum=0.2)
