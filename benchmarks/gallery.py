"""How soon a gallery of 2,000 videos can be used, beside a page of 2,000 video elements.

    python -m benchmarks.gallery [--runs 5] [--shots 2000]

Each run starts Chromium with an empty profile and opens a page of files of their own (hard links to
twenty clips and posters). A page counts as usable once something was painted and its main thread
has then answered for 200 ms without a break of more than 50 ms; the 200 ms are not counted. Then it
is scrolled from its top to its end in 60 steps, and the longest time between two frames noted. The
search is measured from the input to the frame that shows its result. The page of video elements is
opened once: it takes most of a minute.
"""

from __future__ import annotations

import argparse
import html
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import attrs

from benchmarks.report import Target, draw_bars, report
from seedance_async.emulator.render import Picture, render
from seedance_async.media.frames import poster
from seedance_async.media.gallery import Gallery, Shot, page
from tests.support.browser import WIDE, Browser, chromium

_CLIPS = 20
_WORDS = ("river", "autumn", "storm", "harbour", "night", "canoe", "fox", "snow", "desert", "train")

#: Before the page's own script: notes when the page can be used.
_WATCH = """
window.watched = {};
const began = () => performance.getEntriesByName('first-contentful-paint')[0]?.startTime;
let last = performance.now(), calm = last;
const look = () => {
  const now = performance.now();
  if (!began() || now - last > 50) calm = now;
  last = now;
  if (began() && now - calm > 200) watched.usable = Math.max(calm, began());
  else setTimeout(look, 0);
};
setTimeout(look, 0);
"""
_SCROLL = """
const done = arguments[0], step = document.documentElement.scrollHeight / 60;
let longest = 0, before = performance.now(), steps = 0;
const next = (now) => {
  longest = Math.max(longest, now - before);
  before = now;
  scrollBy(0, step);
  if (++steps < 60) requestAnimationFrame(next);
  else requestAnimationFrame(() => done(longest));
};
requestAnimationFrame(next);
"""
_SEARCH = """
const done = arguments[0], box = document.querySelector('#search'), began = performance.now();
box.value = 'harbour 72';
box.dispatchEvent(new Event('input'));
requestAnimationFrame(() => setTimeout(() => done(performance.now() - began), 0));
"""


@attrs.frozen
class Opened:
    """One page, opened once. Milliseconds, and counts."""

    usable: float
    loaded: float
    scroll: float
    search: float | None
    elements: int
    videos: int


def make_folder(folder: Path, count: int) -> list[Shot]:
    """Clips and posters, and the shots that have them."""
    for number in range(_CLIPS):
        clip = folder / f"clip-{number}.mp4"
        render(Picture(f"Clip {number}", "", "240p", "16:9", 4), clip)
        clip.with_suffix(".jpg").write_bytes(poster(clip, 426))
    return [_shot(folder, number) for number in range(count)]


def _shot(folder: Path, number: int) -> Shot:
    clip = folder / f"clip-{number % _CLIPS}.mp4"
    video = folder / f"{number:04d}.mp4"
    for suffix in (".mp4", ".jpg"):
        os.link(clip.with_suffix(suffix), video.with_suffix(suffix))
    words = [_WORDS[(number * step) % len(_WORDS)] for step in range(1, 13)]
    resolution = ("480p", "720p", "1080p")[number % 3]
    return Shot(
        id=f"req_{number:016x}",
        request_id=f"req_{number:016x}",
        state="succeeded",
        request={"prompt": " ".join(words), "model": "seedance-2.0", "resolution": resolution},
        columns={"scene": f"scene {number % 9}"},
        line=number,
        credits=16,
        video=video,
        poster=video.with_suffix(".jpg"),
    )


def naive(shots: Sequence[Shot]) -> str:
    """What one writes first: a video element for each file."""
    figures = (
        f'<figure><video src="{shot.video.name}" poster="{shot.poster.name}" controls></video>'
        f"<figcaption>{html.escape(shot.request['prompt'])}</figcaption></figure>"
        for shot in shots
        if shot.video and shot.poster
    )
    style = "body{display:grid;grid-template-columns:repeat(4,1fr)} video{width:100%}"
    return f"<!doctype html><meta charset=utf-8><style>{style}</style>{''.join(figures)}"


def opened(path: Path) -> Opened:
    """Open a page in a fresh browser."""
    with chromium() as browser:
        browser.driver.set_script_timeout(120)
        browser.driver.set_page_load_timeout(120)
        browser.cdp("Page.addScriptToEvaluateOnNewDocument", {"source": _WATCH})
        browser.open(path, WIDE)
        return Opened(
            usable=_waited(browser, "watched.usable"),
            loaded=_waited(
                browser,
                "performance.timing.loadEventEnd && "
                "performance.timing.loadEventEnd - performance.timing.navigationStart",
            ),
            scroll=browser.driver.execute_async_script(_SCROLL),
            search=browser.driver.execute_async_script(_SEARCH) if browser.all("#search") else None,
            elements=browser.script("return document.querySelectorAll('*').length"),
            videos=browser.script("return document.querySelectorAll('video').length"),
        )


def _waited(browser: Browser, expression: str) -> float:
    return float(browser.until(expression, seconds=120))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--shots", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shots = make_folder(folder, options.shots)
        pages = {"gallery": page(Gallery("videos"), shots, _name), "video elements": naive(shots)}
        for kind, text in pages.items():
            (folder / f"{kind}.html").write_text(text, encoding="utf-8")
        runs = {
            kind: [opened(folder / f"{kind}.html") for _ in range(count)]
            for kind, count in {"gallery": options.runs, "video elements": 1}.items()
        }
        sizes = {kind: len(text.encode()) / 1e6 for kind, text in pages.items()}
    _report(runs, sizes)


def _name(file: Path) -> str:
    return file.name


def _report(runs: dict[str, list[Opened]], sizes: dict[str, float]) -> None:
    columns: dict[str, Callable[[Opened], Any]] = {
        "usable, ms": lambda run: run.usable,
        "loaded, ms": lambda run: run.loaded,
        "longest frame of a scroll, ms": lambda run: run.scroll,
        "search, ms": lambda run: run.search,
        "elements": lambda run: run.elements,
        "video elements": lambda run: run.videos,
    }
    ours = runs["gallery"]
    report(
        "gallery",
        header=("median of the runs", *columns, "MB of HTML"),
        rows=[
            [
                kind,
                *(_median([value(run) for run in found]) for value in columns.values()),
                sizes[kind],
            ]
            for kind, found in runs.items()
        ],
        targets=[
            Target(
                "ms until 2,000 videos are usable", _median([r.usable for r in ours]), at_most=1000
            ),
            Target(
                "ms from a key to what the search finds",
                _median([r.search for r in ours]),
                at_most=100,
            ),
        ],
        packages=("selenium",),
        details={kind: [attrs.asdict(run) for run in found] for kind, found in runs.items()},
    )
    draw_bars(
        "gallery",
        {
            "ms until usable": {
                kind: [run.usable for run in found] for kind, found in runs.items()
            },
            "ms of the longest frame of a scroll": {
                kind: [run.scroll for run in found] for kind, found in runs.items()
            },
        },
    )


def _median(values: Sequence[Any]) -> Any:
    known = [value for value in values if value is not None]
    return median(known) if known else "-"


if __name__ == "__main__":
    main()
