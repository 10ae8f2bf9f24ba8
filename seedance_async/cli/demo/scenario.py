"""The demo's scenario: 24 scenes, and six mishaps with what the SDK did about each.

A mishap says what goes wrong with one scene, and reads in the emulator's records what the SDK did
about it, so that the demo shows what happened and not what should have happened.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from seedance_async import GenerationRequest, JobState, Model
from seedance_async._utils.plural import counted
from seedance_async.cli.runs.outcome import Outcome
from seedance_async.emulator import Emulator, Fault

_FIRST = ("photo.jpg",)
_BOTH = ("photo.jpg", "last.jpg")
_BEAT = ("photo.jpg", "beat.mp3")
_MOTION = ("clip.mp4", "beat.wav")
_ALL = ("photo.jpg", "last.jpg", "clip.mp4", "beat.mp3")
_FAST, _PRO = Model.SEEDANCE_2_0_FAST.value, Model.SEEDANCE_1_5_PRO.value


@attrs.frozen
class Scene:
    """One job of the demo."""

    prompt: str
    samples: tuple[str, ...] = ()
    aspect_ratio: str = "16:9"
    resolution: str = "480p"
    duration: int = 4
    model: str = Model.SEEDANCE_2_0.value

    def request(self, emulator: Emulator) -> GenerationRequest:
        """The request, with media from the emulator's own samples."""
        return GenerationRequest(
            self.prompt,
            model=self.model,
            media_urls=[emulator.media_url(sample) for sample in self.samples],
            aspect_ratio=self.aspect_ratio,
            duration=self.duration,
            resolution=self.resolution,
        )


SCENES = (
    Scene("A river in autumn, seen from a slow boat"),
    Scene("The birthday candles go out, one by one", _FIRST),
    Scene("Sunrise over the ocean becomes a glowing skyline", _BOTH, "16:9", "720p", 5),
    Scene("A fashion film cut to the beat", _BEAT, "9:16", "480p", 4, _FAST),
    Scene("Rain on a tin roof at night", (), "1:1"),
    Scene("Her hair moves in the wind", _FIRST, "9:16"),
    Scene("A seed becomes a tree", _BOTH, "1:1", "480p", 5, _PRO),
    Scene("The dancer follows the reference clip", _MOTION, "16:9"),
    Scene("A paper boat sets sail in a gutter", (), "16:9", "720p", 4, _FAST),
    Scene("The still life breathes", _FIRST, "1:1", "480p", 5, _PRO),
    Scene("Winter turns into spring in one street", _BOTH, "16:9"),
    Scene("Four references, one mood", _ALL, "16:9", "720p"),
    Scene("A lighthouse in fog", (), "9:16", "480p", 6),
    Scene("The portrait looks up and smiles", _FIRST, "9:16", "720p"),
    Scene("A door opens onto the sea", _BOTH, "9:16"),
    Scene("Skaters in time with the drum", _MOTION, "1:1"),
    Scene("A market at dawn, handheld", (), "16:9", "480p", 5),
    Scene("Steam rises from the cup", _FIRST, "16:9", "480p", 4, _FAST),
    Scene("The sketch turns into the finished car", _BOTH, "16:9", "480p", 4, _FAST),
    Scene("City lights pulse with the bass", _BEAT, "9:16"),
    Scene("A fox crosses the snow", (), "16:9", "480p", 5, _PRO),
    Scene("The mountain wakes up", _FIRST, "16:9"),
    Scene("A closed bud, an open flower", _BOTH, "1:1", "720p"),
    Scene("All references at once, slow motion", _ALL, "1:1", "480p", 6),
)

#: What the SDK did about a mishap, by the records; None if they do not show what was expected.
Finding = Callable[[Emulator, Outcome], str | None]


@attrs.frozen
class Mishap:
    """Something that goes wrong with one scene."""

    line: int
    operation: str
    fault: Fault
    what: str
    found: Finding

    def arrange(self, emulator: Emulator) -> None:
        """Make it happen, once."""
        emulator.faults.script(self.operation, self.fault, match=SCENES[self.line - 1].prompt)

    def describe(self, emulator: Emulator, outcomes: Mapping[int, Outcome]) -> tuple[str, bool]:
        """What went wrong and what the SDK did; whether the records show what was expected."""
        happened = emulator.requests.fault_count(self.operation, self.fault.kind) == 1
        outcome = outcomes.get(self.line)
        done = self.found(emulator, outcome) if happened and outcome is not None else None
        if done is None:
            found = outcome.state if outcome is not None else "no outcome"
            return f"job {self.line}: {self.what}\n    → NOT as expected: {found}", False
        return f"job {self.line}: {self.what}\n    → {done}", True


def _refused(emulator: Emulator, outcome: Outcome) -> str | None:
    entries = [entry for entry in emulator.ledger if entry.prompt == outcome.prompt]
    if [entry.outcome for entry in entries] != ["refused", "charged"]:
        return None
    waited = entries[1].time - entries[0].time
    return f"nothing was charged, so it was sent again {waited:.1f} s later, and charged once"


def _polled_on(emulator: Emulator, outcome: Outcome) -> str | None:
    if outcome.state != JobState.SUCCEEDED or outcome.request_id is None:
        return None
    polls = counted(emulator.jobs[outcome.request_id].polls, "poll")
    return f"a failed poll says nothing about the job: polled again, it succeeded after {polls}"


def _unknown(emulator: Emulator, outcome: Outcome) -> str | None:
    if outcome.state != JobState.SUCCEEDED:
        return None
    return "an unknown status is treated as running: polled again, it succeeded"


def _failed(emulator: Emulator, outcome: Outcome) -> str | None:
    if outcome.state != JobState.FAILED:
        return None
    return (
        f"reported as failed, with the service's reason; not submitted again: {outcome.request_id}"
    )


def _uncertain(emulator: Emulator, outcome: Outcome) -> str | None:
    entries = [entry for entry in emulator.ledger.charged if entry.prompt == outcome.prompt]
    if outcome.state != JobState.UNCERTAIN or len(entries) != 1:
        return None
    return (
        "reported as uncertain and not sent again. It was charged: the emulator's ledger has it "
        f"as {entries[0].request_id}; for a real account, the vendor's dashboard shows it"
    )


def _resumed(emulator: Emulator, outcome: Outcome) -> str | None:
    requests = [m for m in emulator.media_requests if f"/{outcome.request_id}.mp4" in m.path]
    rest = requests[-1].headers.get("range") if len(requests) == 2 else None
    if outcome.file is None or rest is None:
        return None
    return f"the rest was downloaded with Range: {rest}, and the whole file was checked"


#: Bytes after which a download breaks off: more than an HTTP client buffers, so that a part has
#: certainly been written.
_BREAK = 180_000

MISHAPS = (
    Mishap(3, "media", Fault("truncated", at=_BREAK), "the download broke off", _resumed),
    Mishap(
        4,
        "submit",
        Fault("rate_limited", retry_after=1),
        "the submit was answered with 429 and Retry-After: 1",
        _refused,
    ),
    Mishap(6, "poll", Fault("502"), "a poll was answered with a gateway's 502", _polled_on),
    Mishap(
        10,
        "poll",
        Fault("unknown_status", value="upscaling"),
        "the status was “upscaling”, which is not documented",
        _unknown,
    ),
    Mishap(13, "job", Fault("failed"), "the service reported the job as failed", _failed),
    Mishap(
        17,
        "submit",
        Fault("drop_after_accept"),
        "the connection broke after the job was accepted and charged, but before the answer",
        _uncertain,
    ),
)
