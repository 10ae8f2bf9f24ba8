"""In which order videos are saved."""

import asyncio
from types import SimpleNamespace

from seedance_async.cli.runs.unsaved import UnsavedVideos, expiry
from tests.support.for_each import for_each

S3 = "https://b.example/v.mp4?X-Amz-Date=20261130T120000Z&X-Amz-Expires=3600&X-Amz-Signature=x"
NOON = 1796040000.0


@for_each(
    ("url", "expected"),
    [
        (S3, NOON + 3600),
        (S3.replace("Amz", "Goog"), NOON + 3600),
        ("https://b.example/v.mp4?Expires=1796040000&Signature=x", NOON),
        ("https://b.example/v.mp4?se=2026-11-30T12%3A00%3A00Z&sig=x", NOON),
        ("https://b.example/v.mp4", None),
        ("https://b.example/v.mp4?X-Amz-Date=today&X-Amz-Expires=3600", None),
        ("https://b.example/v.mp4?Expires=never", None),
        ("https://b.example/v.mp4?se=soon", None),
    ],
)
def test_a_signed_url_says_when_it_expires(url, expected):
    assert expiry(url) == expected


def job(url):
    return SimpleNamespace(generation=SimpleNamespace(output_url=url))


async def test_what_expires_first_is_saved_first():
    unsaved = UnsavedVideos()
    plain, late, soon = job("https://b.example/v.mp4"), job(S3), job(S3.replace("3600", "60"))
    unsaved.add("new", plain)
    unsaved.add("old", plain, ended_at=5.0)
    unsaved.add("late", late)
    unsaved.add("soon", soon)
    unsaved.close()
    assert [line async for line, _ in unsaved] == ["soon", "late", "old", "new"]


async def test_those_who_wait_get_what_comes_each_once():
    unsaved, got = UnsavedVideos(), []

    async def save():
        async for line, _ in unsaved:
            got.append(line)
            await asyncio.sleep(0)

    savers = [asyncio.create_task(save()) for _ in range(3)]
    await asyncio.sleep(0)
    for number in range(10):
        unsaved.add(number, job(None))
        await asyncio.sleep(0)
    unsaved.close()
    await asyncio.gather(*savers)
    assert sorted(got) == list(range(10))
