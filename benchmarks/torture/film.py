"""`python -m benchmarks.torture.film`: a film of shots, killed at every step of every shot.

Each shot begins with the last frame of the one before. The film is one input file; `seedance batch`
makes it, is killed with SIGKILL and started again until no step is left at which it has not died.
A shot whose submit was cut short skips some steps, so it takes several films to come to them all.
What is uncertain then, a person would look up in the vendor's dashboard: here it is looked up in
the emulator's ledger, and adopted, or allowed to be sent again if it is not there.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import attrs

from benchmarks.torture.killing import TortureError
from seedance_async.emulator import Emulator, EmulatorOptions
from seedance_async.journal import JournalEntry, read_entries
from seedance_async.media.frames import last_frame
from seedance_async.media.joining import join_clips

#: What the emulator's clips have.
FRAMES_A_SECOND = 24

_PROCESS = (sys.executable, "-W", "error", "-m", "benchmarks.torture.film_life")
_ROOT = Path(__file__).parents[2]
_KILLED = -9
_LIFE_SECONDS = 60.0
#: Seconds in which the emulator has read what a killed process has sent.
_ARRIVAL_SECONDS = 0.1
#: Lives in a row that may end by themselves without having made the film.
_MOST_UNFINISHED = 3


@attrs.frozen(kw_only=True)
class Film:
    """What is made.

    Attributes:
        shots: how many.
        seconds: the length of each.
        steps: the steps at which to die, at each shot; all if it is empty.
        most: films, at most.
        media: whether each clip is a picture of its own, see `EmulatorOptions`.
    """

    shots: int = 12
    seconds: int = 4
    steps: Sequence[str] = ()
    most: int = 100
    media: Literal["rendered", "shared"] = "rendered"

    @property
    def middle(self) -> int:
        """The shot that gets another key in the end."""
        return self.shots // 2 + 1

    @property
    def frames(self) -> int:
        """How many the joined film has to have."""
        return self.shots * self.seconds * FRAMES_A_SECOND

    def prompt(self, film: int, shot: int) -> str:
        """What a shot shows."""
        return f"film {film} shot {shot}"

    def lines(self, film: int, other: int | None = None) -> str:
        """The input file of one film.

        Args:
            film: its number.
            other: the shot that has another key than before.
        """
        keys = [f"shot-{n}" + ("b" if n == other else "") for n in range(1, self.shots + 1)]
        lines = []
        for number, key in enumerate(keys, 1):
            line = {"key": key, "prompt": self.prompt(film, number), "duration": self.seconds}
            before = [{"from": keys[number - 2], "frame": "last"}] if number > 1 else []
            lines.append(json.dumps(line | ({"mediaUrls": before} if before else {})))
        return "\n".join(lines) + "\n"


@attrs.define(kw_only=True)
class Verdict:
    """What came of it.

    Attributes:
        films: how many were made.
        kills: by step, over all shots.
        lives: how often the program was started.
        adopted, resubmitted: uncertain jobs that were found in the ledger, or not.
        charged: by prompt, how often it was paid for.
        again: submits of one more life of each film, which must buy nothing.
        wrong_frames: prompts of shots that do not begin where the one before ends.
        frames: in each joined film.
        rerolled: prompts that were bought where the middle shot of the first film got another key.
        seconds: the duration of it all.
    """

    films: int = 0
    kills: Counter[str] = attrs.field(factory=Counter)
    lives: int = 0
    adopted: int = 0
    resubmitted: int = 0
    charged: Counter[str] = attrs.field(factory=Counter)
    again: int = 0
    wrong_frames: list[str] = attrs.field(factory=list)
    frames: list[int] = attrs.field(factory=list)
    rerolled: list[str] = attrs.field(factory=list)
    seconds: float = 0.0

    def broken(self, film: Film) -> list[str]:
        """The promises that do not hold."""
        shots, films = range(1, film.shots + 1), range(1, self.films + 1)
        prompts = Counter(film.prompt(number, shot) for number in films for shot in shots)
        after = [film.prompt(1, shot) for shot in shots if shot >= film.middle]
        found = {
            f"bought {dict(self.charged)}": self.charged != prompts,
            f"{self.again} submits by one more life": self.again > 0,
            f"{self.wrong_frames} begin elsewhere": bool(self.wrong_frames),
            f"{self.frames} frames, not {film.frames}": set(self.frames) != {film.frames},
            f"a reroll bought {self.rerolled}": self.rerolled != after,
        }
        return [words for words, is_broken in found.items() if is_broken]


class Lives:
    """Makes films in one life of the program after the other.

    Args:
        film: what is made.
        folder: for all files.
        emulator: a started one.
        program: the process that forks the lives.
    """

    def __init__(
        self, film: Film, folder: Path, emulator: Emulator, program: asyncio.subprocess.Process
    ) -> None:
        self._film, self._folder, self._emulator = film, folder, emulator
        self._program = program
        self._deaths = folder / "deaths.jsonl"
        self.log = folder / "log.txt"
        self.verdict = Verdict()

    async def torture(self) -> None:
        """Make films until one was made without a death, or there are enough."""
        died = -1
        while self.verdict.films < self._film.most and died < self.verdict.kills.total():
            died = self.verdict.kills.total()
            self.verdict.films += 1
            await self._make()
            self.verdict.kills = Counter(step for step, _ in self._died())
        self.verdict.charged = Counter(self._emulator.ledger.charged_prompts())
        await self._reroll()

    def _died(self) -> list[list[str]]:
        return [json.loads(line) for line in self._deaths.read_text().splitlines()]

    async def _make(self) -> None:
        """One film, dying wherever none has died before; then judge what came of it."""
        number, unfinished, options = self.verdict.films, 0, list[str]()
        (self._folder / f"{number}.jsonl").write_text(self._film.lines(number))
        while code := await self._batch(number, *options, dying=True):
            unfinished = 0 if code == _KILLED else unfinished + 1
            if unfinished > _MOST_UNFINISHED:
                raise TortureError(f"the film is not made: exit code {code}; see {self.log}")
            options = await self._settle(number)
        submits = len(self._emulator.ledger)
        await self._batch(number)
        self.verdict.again += len(self._emulator.ledger) - submits
        videos = self._videos(number)
        self.verdict.wrong_frames += self._elsewhere(number, videos)
        joined = await asyncio.to_thread(join_clips, videos, self._folder / f"{number}.mp4")
        self.verdict.frames.append(joined.frames)

    async def _reroll(self) -> None:
        """Give the middle shot of the first film another key."""
        submits = len(self._emulator.ledger)
        (self._folder / "1.jsonl").write_text(self._film.lines(1, other=self._film.middle))
        await self._batch(1)
        bought = list(self._emulator.ledger)[submits:]
        self.verdict.rerolled = [str(entry.prompt) for entry in bought]

    def _videos(self, film: int) -> list[Path]:
        """The clips of a film, in order."""
        results = (self._folder / f"{film}" / "results.jsonl").read_text().splitlines()
        files = {record["line"]: record["file"] for record in map(json.loads, results)}
        return [Path(files[line]) for line in sorted(files)]

    def _elsewhere(self, film: int, videos: Sequence[Path]) -> Iterator[str]:
        """The shots that were bought with another picture than the end of the one before."""
        ends = {
            self._film.prompt(film, shot): hashlib.sha256(last_frame(video)).hexdigest()
            for shot, video in enumerate(videos, 2)
        }
        for entry in self._emulator.ledger.charged:
            end = ends.get(entry.prompt or "")
            if end is not None and f"/{end}/" not in (entry.body or {})["mediaUrls"][0]:
                yield str(entry.prompt)

    async def _settle(self, film: int) -> list[str]:
        """Do what a person does about uncertain jobs; the options of the next life."""
        uncertain, options = self._uncertain(film), list[str]()
        if uncertain:
            await asyncio.sleep(_ARRIVAL_SECONDS)
        charged = {each.prompt: each.request_id for each in self._emulator.ledger.charged}
        for entry in uncertain:
            request_id = charged.get(json.loads(entry.request)["prompt"])
            if request_id is None:
                self.verdict.resubmitted += 1
                options = ["--resubmit-uncertain"]
            else:
                self.verdict.adopted += 1
                folder = str(self._folder / f"{film}")
                if await self._run(["journal", "adopt", folder, entry.key, request_id]):
                    raise TortureError(f"{request_id} could not be adopted; see {self.log}")
        return options

    def _uncertain(self, film: int) -> list[JournalEntry]:
        journal = self._folder / f"{film}" / "run.db"
        entries = read_entries(journal) if journal.exists() else []
        return [entry for entry in entries if entry.is_uncertain]

    async def _batch(self, film: int, *options: str, dying: bool = False) -> int:
        self.verdict.lives += 1
        words = ["batch", str(self._folder / f"{film}.jsonl"), "-o", str(self._folder / f"{film}")]
        return await self._run([*words, "--yes", "--poll-interval", "0.02", *options], dying=dying)

    async def _run(self, words: Sequence[str], *, dying: bool = False) -> int:
        command = {
            "words": words,
            "deaths": str(self._deaths) if dying else None,
            "steps": list(self._film.steps),
            "log": str(self.log),
        }
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(command).encode() + b"\n")
        try:
            async with asyncio.timeout(_LIFE_SECONDS):
                return int(await self._program.stdout.readline())
        except (TimeoutError, ValueError):
            raise TortureError(f"a life hangs, or cannot be started; see {self.log}") from None


@asynccontextmanager
async def _program(emulator: Emulator, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *_PROCESS,
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "SEEDANCE_BASE_URL": emulator.url,
            "SEEDANCE_API_KEY": emulator.api_key,
            "SEEDANCE_STATE_DIR": str(folder / "state"),
            "SEEDANCE_ASK_ABOVE": "1000000",
        },
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def make(film: Film, folder: Path) -> Verdict:
    """Make the film in a folder, and judge it.

    Raises:
        TortureError: the film could not be made.
    """
    began = time.monotonic()
    options = EmulatorOptions(speed=10_000.0, media=film.media)
    async with Emulator(options) as emulator, _program(emulator, folder) as program:
        lives = Lives(film, folder, emulator, program)
        await lives.torture()
    lives.verdict.seconds = time.monotonic() - began
    return lives.verdict


def main() -> int:
    """The exit code: 0 if all promises hold, 1 if one does not, 2 if the run itself failed."""
    parser = argparse.ArgumentParser(prog="film", description=__doc__)
    parser.add_argument("--shots", type=int, default=12)
    parser.add_argument("--keep", action="store_true", help="keep the journal and the videos")
    given = parser.parse_args()
    film, folder = Film(shots=given.shots), Path(tempfile.mkdtemp(prefix="seedance-film-"))
    try:
        verdict = asyncio.run(make(film, folder))
    except TortureError as error:
        given.keep = True
        sys.stderr.write(f"the run failed: {error}\n")
        return 2
    finally:
        if given.keep:
            sys.stderr.write(f"all files are in {folder}\n")
        else:
            shutil.rmtree(folder)
    for name, value in _table(film, verdict):
        sys.stdout.write(f"{name:<50}{value:>20}\n")
    broken = verdict.broken(film)
    for words in broken:
        sys.stderr.write(f"{words}\n")
    return 1 if broken else 0


def _table(film: Film, verdict: Verdict) -> Iterator[tuple[str, object]]:
    yield "films of so many shots", f"{verdict.films} of {film.shots}"
    yield "kills (SIGKILL)", verdict.kills.total()
    for step, count in sorted(verdict.kills.items()):
        yield f"  {step}", count
    yield "starts of `seedance batch`", verdict.lives
    yield "uncertain, and adopted from the ledger", verdict.adopted
    yield "uncertain, and certainly not in the ledger", verdict.resubmitted
    yield "shots bought", len(verdict.charged)
    yield "shots bought twice (must be 0)", sum(n > 1 for n in verdict.charged.values())
    yield "submits by one more run of each film (0)", verdict.again
    yield "shots that begin elsewhere (0)", len(verdict.wrong_frames)
    yield "frames of each joined film", " ".join(map(str, sorted(set(verdict.frames))))
    yield "  wanted", film.frames
    yield f"bought because shot {film.middle} got another key", len(verdict.rerolled)
    yield "duration", f"{verdict.seconds:.0f} s"


if __name__ == "__main__":
    sys.exit(main())
