"""A film whose program is killed: a short version of `python -m benchmarks.torture.film`."""

from benchmarks.torture.film import Film, make

#: Where a shot has its beginning, is on its way, and is bought, perhaps without anybody knowing.
STEPS = ("after taking the frame", "before the submit", "after the submit")


async def test_no_shot_of_a_film_is_bought_twice_wherever_its_program_is_killed(tmp_path):
    film = Film(shots=3, steps=STEPS, most=1, media="shared")
    verdict = await make(film, tmp_path)
    assert not verdict.broken(film)
    assert verdict.kills["after taking the frame"] == 2
    assert (verdict.resubmitted, verdict.adopted) == (3, 3), "each submit that was cut short"
