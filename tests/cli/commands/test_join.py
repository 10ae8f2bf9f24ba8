"""`seedance join`, with the clips of a real batch."""

from pathlib import Path

from tests.cli.conftest import write_prompts
from tests.support.clips import FPS, frame_levels, write_clip


def test_the_videos_of_a_batch_become_a_film(seedance, seedance_emulator):
    write_prompts(3)
    assert seedance("batch", "prompts.txt", "--duration", "4").code == 0
    clips = sorted(str(path) for path in Path("videos").glob("*.mp4"))
    done = seedance("join", *clips, "-o", "film.mp4")
    assert (done.code, done.out) == (0, "film.mp4\n")
    assert f"3 clips joined: {12 * FPS} frames, 12.0 s" in done.err
    assert len(frame_levels("film.mp4")) == 12 * FPS


def test_a_film_that_exists_is_replaced_only_if_asked(seedance):
    write_clip(Path("a.mp4"), 3)
    write_clip(Path("film.mp4"), 4)
    done = seedance("join", "a.mp4", "a.mp4", "-o", "film.mp4")
    assert done.code == 2
    assert "film.mp4 exists; --overwrite replaces it" in done.err
    assert len(frame_levels("film.mp4")) == 4
    assert seedance("join", "a.mp4", "a.mp4", "-o", "film.mp4", "--overwrite").code == 0
    assert len(frame_levels("film.mp4")) == 6


def test_what_cannot_be_joined_is_told_in_one_line(seedance):
    write_clip(Path("a.mp4"), 3)
    write_clip(Path("b.mp4"), 3, size=(64, 96))
    Path("c.mp4").write_bytes(b"no clip")
    done = seedance("join", "a.mp4", "b.mp4", "-o", "film.mp4")
    assert done.code == 2
    assert "b.mp4 cannot be joined to a.mp4 without encoding it again: its size is" in done.err
    done = seedance("join", "a.mp4", "c.mp4", "-o", "film.mp4")
    assert done.code == 2
    assert "c.mp4 cannot be read as a video" in done.err
    done = seedance("join", "a.mp4", "-o", "nowhere/film.mp4")
    assert done.code == 2
    assert "nowhere/film.mp4 cannot be written: No such file" in done.err
    assert not Path("film.mp4").exists()
