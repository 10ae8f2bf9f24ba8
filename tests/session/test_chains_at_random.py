"""Random films: whatever becomes of each job, nothing is sent in vain, twice, or never."""

import asyncio
import json
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from seedance_async import GenerationRequest, JobMedium, JobState, SeedanceSession
from tests.support.fakes import LOST, FakeAPI, error_reply, told
from tests.support.memory_journal import MemoryJournal, memory_store
from tests.support.virtual_time import VirtualTimeLoop

FATES = {
    "succeeds": JobState.SUCCEEDED,
    "fails": JobState.FAILED,
    "is refused": JobState.REJECTED,
    "is lost": JobState.UNCERTAIN,
}


class Chancy(FakeAPI):
    """Gives each prompt its fate."""

    def __init__(self):
        super().__init__()
        self.fates, self.prompt_of, self.ended = {}, {}, set()

    def create(self, request):
        body = json.loads(request.body)
        fate = self.fates[body["prompt"]]
        sources = {url.rpartition("/")[2].removesuffix(".mp4") for url in body.get("mediaUrls", ())}
        assert sources <= self.ended, "it was sent before its sources had ended"
        if fate == "is lost":
            raise LOST
        if fate == "is refused":
            return error_reply(400)
        self.prompt_of[f"req_{len(self.jobs)}"] = body["prompt"]
        return super().create(request)

    def get(self, request):
        request_id = request.path.rsplit("/", 1)[1]
        answer = super().get(request)
        if b'"succeeded"' in answer.body:
            if self.fates[self.prompt_of[request_id]] == "fails":
                return told(request_id, "failed")
            self.ended.add(request_id)
        return answer


@st.composite
def films(draw):
    """By shot, the earlier ones that it is made from, perhaps itself, and its fate."""
    sources = []
    for number in range(draw(st.integers(1, 9))):
        earlier = st.integers(0, number if draw(st.integers(0, 19)) == 7 else max(0, number - 1))
        made_from = draw(st.sets(earlier, max_size=3)) if number else set()
        sources.append(sorted(made_from))
    fates = st.sampled_from(["succeeds"] * 6 + list(FATES))
    return sources, [draw(fates) for _ in sources]


def expected(sources, fates, known):
    """The state of each shot in the end; `known` are those of shots that were sent before."""
    states = []
    for number, made_from in enumerate(sources):
        wanted = [states[each] if each < number else None for each in made_from]
        if number in known:
            states.append(known[number])
        elif all(state is JobState.SUCCEEDED for state in wanted):
            states.append(FATES[fates[number]])
        else:
            states.append(JobState.REJECTED)
    return states


@settings(max_examples=60)
@given(films(), st.integers(1, 4), st.booleans())
def test_a_film_is_bought_as_far_as_it_can_be_and_once(film, at_once, with_journal):
    sources, fates = film
    shots = [
        (f"{n}", GenerationRequest(f"{n}", media_urls=[JobMedium(f"{each}") for each in made_from]))
        for n, made_from in enumerate(sources)
    ]
    api, store = Chancy(), memory_store()

    async def run():
        session = SeedanceSession(
            "key", "https://api.example", transport=api, rng=random.Random(7), poll_rate=1000.0,
            journal=MemoryJournal(store) if with_journal else None, max_in_flight=at_once,
            max_uncertain_in_a_row=100,
        )  # fmt: skip
        async with asyncio.timeout(10_000), session:
            return [job.state for job in await session.run(shots)]

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        api.fates = {f"{number}": fate for number, fate in enumerate(fates)}
        states = runner.run(run())
        assert states == expected(sources, fates, {})
        sent = set(api.prompts)
        assert set(api.prompts.values()) <= {1}
        if with_journal:  # once more, and now nothing goes wrong
            refused = {n for n, fate in enumerate(fates) if fate == "is refused"}
            known = {int(each): states[int(each)] for each in sent if int(each) not in refused}
            api.fates = dict.fromkeys(api.fates, "succeeds") | {
                f"{n}": fates[n] for n, state in known.items() if state is JobState.FAILED
            }
            again = runner.run(run())
            assert again == expected(sources, ["succeeds"] * len(fates), known)
            accepted = [api.prompt_of[each] for each in api.jobs]
            assert len(set(accepted)) == len(accepted), "a shot was accepted twice"
    store.close()
