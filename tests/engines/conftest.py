"""An emulator for all tests of a module, and the engines that the contract is checked with."""

import random
import secrets
import shutil

import attrs
import pytest
import pytest_asyncio
from sqlalchemy import make_url

from seedance_async import GenerationRequest
from seedance_async.emulator import Emulator, EmulatorOptions
from seedance_async.engines.dbos import SeedanceQueue, SeedanceWorker
from tests.conftest import QUICK_POLL, QUICK_RETRY, SEED
from tests.engines.by_hand import HandQueue, hand_worker

#: Seconds between two looks, of everybody who looks.
SOON = 0.05


@attrs.frozen
class OnDBOS:
    """DBOS at one URL: queues and workers as the contract wants them."""

    url: str
    emulator: Emulator
    videos: object

    def save(self):
        """Keep a copy of the queue as it is now, without the journal; in SQLite."""
        shutil.copy(make_url(self.url).database, self.videos.with_suffix(".copy"))

    def restore(self):
        """Put that copy in the place of the queue."""
        shutil.copy(self.videos.with_suffix(".copy"), make_url(self.url).database)

    def queue(self, **options):
        return SeedanceQueue(self.url, look_every=SOON, **options)

    def worker(self, **options):
        options = {**self._options(), "look_every": SOON, **options}
        return SeedanceWorker(self.url, self.videos, **options)

    def _options(self):
        return {
            "base_url": self.emulator.url,
            "api_key": self.emulator.api_key,
            "poll": QUICK_POLL,
            "retry": QUICK_RETRY,
            "rng": random.Random(SEED),
        }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def emulator(tmp_path_factory):
    ledger = tmp_path_factory.mktemp("emulator") / "ledger.jsonl"
    options = EmulatorOptions(seed=SEED, speed=1000.0, gpus=100, media="shared", ledger_path=ledger)
    async with Emulator(options) as emulator:
        yield emulator


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def held_emulator():
    """Its jobs start and end by the hand of the test, and can be cancelled until then."""
    async with Emulator(EmulatorOptions(seed=SEED, media="shared", hold=True)) as emulator:
        yield emulator


@attrs.frozen
class ByHand(OnDBOS):
    """The engine of `by_hand`, likewise."""

    runs: dict[str, dict[str, object]] = attrs.field(factory=dict)

    def queue(self):
        return HandQueue(self.runs, self._journal)

    def worker(self, **options):
        return hand_worker(self.runs, self._journal, self.videos, **self._options(), **options)

    @property
    def _journal(self):
        return self.videos.with_suffix(".db")


#: All engines. Another one is added here, and passes the tests of the contract.
ENGINES = ["sqlite", "postgres", "by hand"]


def new_engine(kind, request, emulator, folder):
    """A place for a queue that nothing has used yet."""
    if kind == "by hand":
        return ByHand("", emulator, folder / "videos")
    url = f"sqlite:///{folder / 'run.db'}"
    if kind == "postgres":
        postgres = request.getfixturevalue("postgres")
        url = postgres.dsn(postgres.new_database())
    return OnDBOS(url, emulator, folder / "videos")


@pytest.fixture(params=ENGINES)
def engine(request, emulator, tmp_path):
    """A place for a queue that is used by one test alone."""
    return new_engine(request.param, request, emulator, tmp_path)


@attrs.frozen
class Running:
    """A queue, and a worker that empties it; tests have runs of their own."""

    engine: OnDBOS
    queue: SeedanceQueue
    run: str

    async def outcomes(self):
        return [outcome async for outcome in self.queue.results(run=self.run)]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=ENGINES)
async def working(request, emulator, tmp_path_factory):
    folder = tmp_path_factory.mktemp("running")
    engine = new_engine(request.param, request, emulator, folder)
    async with engine.queue() as queue, engine.worker():
        yield Running(engine, queue, "")


@pytest.fixture
def running(working):
    """One for all tests of a module, and of an engine."""
    return attrs.evolve(working, run=f"Autumn/{secrets.token_hex(4)}")


@pytest.fixture
def held_engine(engine, held_emulator):
    return attrs.evolve(engine, emulator=held_emulator)


@pytest.fixture
def make_requests(emulator):
    """Requests that no other test has made, and how the ledger shows what they cost."""
    name = secrets.token_hex(4)

    def make(count):
        return [GenerationRequest(f"river {number} of {name}") for number in range(count)]

    return make
