"""`--fit`: what is uploaded has the ratio, and the same command finds its own jobs."""

import sys
import urllib.request
from pathlib import Path

import pytest

from seedance_async.journal import read_entries
from seedance_async.media import fitting
from tests.media.test_pictures import opened, stripes


@pytest.fixture
def shots():
    """Three lines with two pictures, one of which has the ratio."""
    folder = Path("film")
    folder.mkdir()
    (folder / "wide.jpg").write_bytes(stripes(300, 90, form="JPEG"))
    (folder / "square.png").write_bytes(stripes(90, 90))
    (folder / "shots.csv").write_text(
        "prompt,media_urls\nA river,wide.jpg\nA fox,wide.jpg\nA tree,square.png\n"
    )
    return folder


def sizes_sent(emulator):
    """The size of the first picture of each job, by its prompt."""
    urls = {job.prompt: job.body["mediaUrls"][0] for job in emulator.jobs.values()}
    return {prompt: opened(fetched(url)).size for prompt, url in urls.items()}


def fetched(url):
    with urllib.request.urlopen(url) as answer:
        return answer.read()


def fit(seedance, folder, *args, how="crop"):
    return seedance(
        "batch", str(folder / "shots.csv"), "--aspect-ratio", "1:1", "--fit", how, *args
    )


def test_pictures_are_uploaded_with_the_ratio_and_known_again(seedance, seedance_emulator, shots):
    assert fit(seedance, shots).code == 0
    assert sizes_sent(seedance_emulator) == dict.fromkeys(("A river", "A fox", "A tree"), (90, 90))
    assert list(seedance_emulator.uploads.values()) == [1, 1], "each picture is stored once"
    moved = shots.rename("elsewhere")
    assert fit(seedance, moved).code == 0
    assert len(seedance_emulator.jobs) == 3
    assert sum(seedance_emulator.uploads.values()) == 2


def test_another_version_of_the_encoder_makes_no_other_job(
    seedance, seedance_emulator, shots, monkeypatch
):
    assert fit(seedance, shots).code == 0
    fitting._of.cache_clear()
    other = stripes(90, 90, form="JPEG", quality=20)
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "fit", lambda data, *_: other if data[:2] == b"\xff\xd8" else data)
        assert fit(seedance, shots).code == 0
    fitting._of.cache_clear()
    assert len(seedance_emulator.jobs) == 3


def test_with_bars_it_is_another_job(seedance, seedance_emulator, shots):
    assert fit(seedance, shots).code == 0
    assert fit(seedance, shots, "-o", "other", how="pad").code == 0
    assert len(seedance_emulator.jobs) == 6
    assert sizes_sent(seedance_emulator)["A river"] == (300, 300)
    known = {entry.fingerprint for entry in read_entries(Path("videos/run.db"))}
    others = {entry.fingerprint for entry in read_entries(Path("other/run.db"))}
    assert len(known & others) == 1, "the picture that has the ratio"


def test_what_cannot_be_fitted_stops_the_run_before_it_costs(seedance, seedance_emulator, shots):
    (shots / "wide.jpg").write_bytes(stripes(300, 90, form="JPEG")[:200])
    done = fit(seedance, shots)
    assert done.code == 2
    assert "line 1 (row 2): media_urls[0]: 'film/wide.jpg' must be a picture" in done.err
    assert "can be decoded" in done.err
    assert "2 bad lines; nothing was sent" in done.err
    done = seedance("batch", str(shots / "shots.csv"), "--fit", "crop")
    assert done.code == 2
    assert "line 3 (row 4): aspect_ratio: None must be given, to fit pictures to" in done.err
    assert not seedance_emulator.jobs


def test_without_the_extra_nothing_is_sent(seedance, seedance_emulator, shots, monkeypatch):
    for name in ("pictures", "fitting"):
        monkeypatch.delitem(sys.modules, f"seedance_async.media.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "PIL", None)
    done = fit(seedance, shots)
    assert done.code == 3
    assert "seedance-async[media]" in done.err
    assert not seedance_emulator.jobs


def test_generate_fits_too(seedance, seedance_emulator, shots):
    picture = str(shots / "wide.jpg")
    words = ("generate", "A river", "--media", picture, "--aspect-ratio", "9:16", "--fit", "pad")
    assert seedance(*words).code == 0
    assert sizes_sent(seedance_emulator) == {"A river": (300, 533)}
    done = seedance("generate", "A river", "--media", picture, "--fit", "pad")
    assert done.code == 2
    assert "aspect_ratio must be given" in done.err
    assert len(seedance_emulator.jobs) == 1


def test_a_reroll_fits_as_the_batch_did(seedance, seedance_emulator, shots):
    assert fit(seedance, shots).code == 0
    assert seedance("reroll", "videos", "1", "--prompt", "A lake").code == 0
    assert sizes_sent(seedance_emulator)["A lake"] == (90, 90)
    assert len(seedance_emulator.uploads) == 2
