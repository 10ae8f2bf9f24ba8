"""How far a submit travels through the package before its bytes are on their way.

Each file on that path is one more that a reader has to open, so their number is held down.
"""

import sys
from pathlib import Path

import seedance_async
from seedance_async import GenerationRequest, SeedanceSession
from seedance_async.emulator import Emulator, EmulatorOptions
from tests.conftest import QUICK_POLL

PACKAGE = f"{Path(seedance_async.__file__).parent}/"
MOST_FILES, MOST_STAYS = 10, 30


class Trail:
    """Notes which files of the package are entered, one after the other."""

    def __init__(self):
        self.stays = []
        self.until_sent = None

    def __call__(self, frame, event, argument):
        if event == "return":
            frame = frame.f_back
            while frame is not None and not self._place(frame):
                frame = frame.f_back
        place = self._place(frame) if frame is not None else None
        if place and event in ("call", "return") and self.stays[-1:] != [place]:
            self.stays.append(place)

    def _place(self, frame):
        name = frame.f_code.co_filename
        inside = name.startswith(PACKAGE) and "/emulator/" not in name
        return name.removeprefix(PACKAGE) if inside else None

    def watch(self, transport):
        """Note how far it went when the transport reports the first byte."""
        send = transport.send

        async def sending(request, *, on_sent=None):
            def note():
                self.until_sent = list(self.stays)
                on_sent()

            return await send(request, on_sent=note if request.charges else on_sent)

        transport.send = sending


async def test_a_submit_enters_few_files_on_its_way_to_the_socket():
    path = Trail()
    request = GenerationRequest("A river in autumn", duration=4)
    async with (
        Emulator(EmulatorOptions(speed=2000, media="shared")) as emulator,
        SeedanceSession(
            base_url=emulator.url, api_key=emulator.api_key, poll=QUICK_POLL
        ) as session,
    ):
        await session.generate(GenerationRequest("a first one, which sets things up", duration=4))
        path.watch(session.client.transport)
        sys.setprofile(path)
        try:
            job = await session.submit(request)
        finally:
            sys.setprofile(None)
        await job
    assert len(set(path.until_sent)) <= MOST_FILES, path.until_sent
    assert len(path.until_sent) <= MOST_STAYS, path.until_sent
    assert {place.partition("/")[0] for place in path.until_sent} <= {"api", "jobs", "session"}
