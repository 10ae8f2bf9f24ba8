"""The pictures of a request, fitted: what they are known by, and what is left alone."""

import pickle

import pytest

from seedance_async import GenerationRequest, InvalidRequestError, SeedanceSession
from seedance_async.api.local_media import local_medium
from seedance_async.api.prepared_request import prepare
from seedance_async.media import EmulatorUploader, fitting
from seedance_async.media.fitting import fit_media
from tests.media.test_pictures import opened, stripes
from tests.support.pictures import MP4, PNG


@pytest.fixture
def picture(tmp_path):
    (tmp_path / "a.jpg").write_bytes(stripes(300, 90, form="JPEG"))
    return tmp_path / "a.jpg"


def request(*media, **fields):
    return GenerationRequest(prompt="x", media_urls=media, **{"aspect_ratio": "1:1", **fields})


def test_a_fitted_picture_is_known_by_the_picture_and_how_and_not_by_its_bytes(
    picture, monkeypatch
):
    (medium,) = fit_media(request(picture), "crop").media_urls
    assert medium.identity == f"{local_medium(picture).sha256}+crop-1:1"
    assert medium.stand_in == f"sha256:{medium.identity}/a.jpg"
    assert opened(medium.read()).size == (90, 90)
    before = prepare(fit_media(request(picture), "crop"), uploads=True)

    fitting._of.cache_clear()
    other = stripes(80, 80, form="JPEG", quality=30)
    monkeypatch.setattr(fitting, "fit", lambda *_: other)  # another version of Pillow
    after = prepare(fit_media(request(picture), "crop"), uploads=True)
    assert after.local[0].read() == other
    assert (after.fingerprint, after.body) == (before.fingerprint, before.body)
    fitting._of.cache_clear()


def test_how_and_the_ratio_make_another_job(picture):
    jobs = {
        prepare(fit_media(request(picture, aspect_ratio=ratio), how), uploads=True).local[0]
        for how in ("crop", "pad")
        for ratio in ("1:1", "9:16")
    }
    assert len({medium.identity for medium in jobs}) == 4


def test_what_needs_no_fitting_is_left_alone(tmp_path):
    (tmp_path / "square.png").write_bytes(stripes(90, 90))
    (tmp_path / "a.mp4").write_bytes(MP4)
    plain = request(tmp_path / "square.png", tmp_path / "a.mp4", "https://a.example/b.png")
    assert fit_media(plain, "crop") is plain
    without = request("https://a.example/b.png", aspect_ratio=None)
    assert fit_media(without, "pad") is without


def test_bytes_are_fitted_too():
    (medium,) = fit_media(request(stripes(300, 90)), "pad").media_urls
    assert opened(medium.read()).size == (300, 300)
    assert (medium.path, medium.content_type) == (None, "image/png")


def test_a_picture_is_fitted_once_for_many_requests(picture, monkeypatch):
    calls = []
    fit = fitting.fit
    monkeypatch.setattr(fitting, "fit", lambda *given: calls.append(given) or fit(*given))
    fitting._of.cache_clear()
    found = {fit_media(request(picture), "crop").media_urls for _ in range(50)}
    assert (len(found), len(calls)) == (1, 1)


def test_all_that_cannot_be_fitted_is_named(tmp_path, picture):
    (tmp_path / "b.png").write_bytes(PNG)
    with pytest.raises(InvalidRequestError) as caught:
        fit_media(request(picture, tmp_path / "b.png", tmp_path / "c.png"), "crop")
    first, second = caught.value.violations
    assert (first.field, second.field) == ("media_urls[1]", "media_urls[2]")
    assert "can be decoded" in first.rule
    assert "exists" in second.rule
    with pytest.raises(InvalidRequestError, match="aspect_ratio must be given"):
        fit_media(request(picture, aspect_ratio=None), "crop")


def test_a_picture_that_was_changed_since_is_not_uploaded(picture):
    (medium,) = fit_media(request(picture), "crop").media_urls
    picture.write_bytes(stripes(300, 80, form="JPEG"))
    with pytest.raises(ValueError, match=r"a\.jpg was changed"):
        medium.read()


def test_a_request_with_a_fitted_picture_can_be_pickled(picture):
    fitted = fit_media(request(picture), "crop")
    copy = pickle.loads(pickle.dumps(fitted))
    assert copy == fitted
    assert copy.media_urls[0].read() == fitted.media_urls[0].read()


async def test_a_session_uploads_the_fitted_picture(seedance_emulator, picture):
    uploader = EmulatorUploader(seedance_emulator.url)
    async with SeedanceSession(
        seedance_emulator.api_key, base_url=seedance_emulator.url, uploader=uploader
    ) as session:
        job = await session.submit(fit_media(request(picture), "crop"))
        await job.cancel()
    (sent,) = seedance_emulator.jobs.values()
    (medium,) = fit_media(request(picture), "crop").media_urls
    assert medium.sha256 in sent.body["mediaUrls"][0]
