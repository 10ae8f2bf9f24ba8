"""A browser, and a page with clips that it can play."""

import attrs
import pytest

from seedance_async.emulator.render import Picture, render
from seedance_async.media.frames import poster
from seedance_async.media.gallery import Gallery, Shot, page
from tests.support.browser import chromium

RIVER, STORM, HARBOUR, CHEF = (
    "A river in autumn",
    "A storm at sea",
    "The harbour at night",
    "A chef",
)


@pytest.fixture(scope="session")
def chromium_once():
    with chromium() as browser:
        yield browser


@pytest.fixture
def browser(chromium_once):
    """The browser; a page that complains fails its test."""
    chromium_once.errors()
    yield chromium_once
    assert chromium_once.errors() == []


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Three clips with their posters, of two lengths."""
    folder = tmp_path_factory.mktemp("clips")
    for number, seconds in enumerate((2, 2, 3), 1):
        path = folder / f"{number}.mp4"
        render(Picture(f"Clip {number}", "", "240p", "16:9", seconds), path)
        path.with_suffix(".jpg").write_bytes(poster(path, 320))
    return folder


def request(prompt, **fields):
    return {"prompt": prompt, "model": "seedance-2.0", "duration": 5, **fields}


@attrs.frozen
class Page:
    """A page in a folder of its own, beside nothing but what a test puts there."""

    folder: object

    def write(self, *shots):
        path = self.folder / "gallery.html"
        address = lambda file: f"../{file.parent.name}/{file.name}"  # noqa: E731
        path.write_text(page(Gallery("videos"), shots, address), "utf-8", "backslashreplace")
        return path


@pytest.fixture
def written(tmp_path_factory, clips):
    return Page(tmp_path_factory.mktemp("page")).write


@pytest.fixture
def four(clips):
    """Three videos, and one that failed."""

    def made(number, prompt, scene, **fields):
        video = clips / f"{number}.mp4"
        files = {"video": video, "poster": video.with_suffix(".jpg")}
        return Shot(
            id=f"req_{number}",
            request_id=f"req_{number}",
            key=f"shot-{number}",
            state="succeeded",
            request=request(prompt, **fields),
            columns={"scene": scene},
            line=number,
            credits=20 * number,
            began=1_790_000_000.0,
            ended=1_790_000_095.0,
            mode="text",
            **files,
        )

    return [
        made(1, RIVER, "land", resolution="480p", aspectRatio="16:9"),
        made(2, STORM, "sea", resolution="720p", mediaUrls=["https://cdn.example/a.png?sig=1"]),
        made(3, HARBOUR, "sea", resolution="480p", mediaUrls=[{"from": "shot-2", "frame": "last"}]),
        Shot(
            id="req_4",
            state="failed",
            request=request(CHEF),
            line=4,
            error="refused by moderation",
            next_step="change the prompt",
        ),
    ]
