"""Real clips joined to a film: every frame, in order, at its time, and nothing half written."""

from itertools import pairwise

import av
import pytest

from seedance_async.media import joining
from seedance_async.media.joining import join_clips
from tests.support.clips import FPS, frame_levels, level, write_clip

TWELVE = (25, 31, 1, 40, 2, 24, 13, 12, 30, 7, 48, 5)


def clips(folder, lengths, **options):
    """Clips whose frames are numbered on from one to the next."""
    starts = [sum(lengths[:index]) for index in range(len(lengths))]
    return [
        write_clip(folder / f"{index}.mp4", length, first=start, **options)
        for index, (length, start) in enumerate(zip(lengths, starts, strict=True))
    ]


def packets(path, kind):
    with av.open(str(path)) as container:
        streams = getattr(container.streams, kind)
        return [packet for packet in container.demux(streams) if packet.size]


@pytest.mark.parametrize("sound", [False, True])
def test_a_film_has_each_frame_of_its_clips_at_its_time(tmp_path, sound):
    film = join_clips(clips(tmp_path, TWELVE, sound=sound), tmp_path / "film.mp4")
    assert film.frames == sum(TWELVE)
    assert film.seconds == pytest.approx(film.frames / FPS)
    assert frame_levels(film.path) == [level(number) for number in range(film.frames)]
    times = sorted(packet.pts * packet.time_base for packet in packets(film.path, "video"))
    assert times == [number * times[1] for number in range(film.frames)]
    assert float(times[1]) == pytest.approx(1 / FPS)


def test_frames_are_copied_as_they_are(tmp_path):
    parts = clips(tmp_path, (25, 31))
    film = join_clips(parts, tmp_path / "film.mp4")
    joined = [bytes(packet) for packet in packets(film.path, "video")]
    assert joined == [bytes(packet) for part in parts for packet in packets(part, "video")]


def test_the_sound_is_kept_without_gaps_and_in_time(tmp_path):
    lengths = (25, 31, 40) * 4
    film = join_clips(clips(tmp_path, lengths, sound=True), tmp_path / "film.mp4")
    sound = packets(film.path, "audio")
    assert all(a.pts + a.duration == b.pts for a, b in pairwise(sound))
    ends = (sound[-1].pts + sound[-1].duration) * sound[-1].time_base
    assert float(ends) == pytest.approx(film.seconds, abs=1024 / 44100)
    with av.open(str(film.path)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) > 44000 * film.seconds


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"size": (64, 96)}, "its size is 64x96, not 96x64"),
        ({"rate": 30}, "its frame rate is 30.00, not 24.00"),
        ({"codec": "mpeg4"}, "its codec is mpeg4, not h264"),
        ({"sound": False}, "its sound is none, not aac, 44100 Hz, mono"),
        ({"colours": 1}, "its encoder's settings is"),
    ],
)
def test_a_clip_of_another_kind_is_named_with_the_difference(tmp_path, options, difference):
    one = write_clip(tmp_path / "one.mp4", 5, sound=True)
    other = write_clip(tmp_path / "other.mp4", 5, **{"sound": True, **options})
    with pytest.raises(ValueError, match=r"other\.mp4 cannot be joined to .*one\.mp4") as caught:
        join_clips([one, one, other], tmp_path / "film.mp4")
    assert difference in str(caught.value)
    assert not (tmp_path / "film.mp4").exists()


def test_what_is_there_is_replaced_only_if_asked(tmp_path):
    parts = clips(tmp_path, (3, 4))
    target = tmp_path / "film.mp4"
    target.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        join_clips(parts, target)
    assert target.read_bytes() == b"mine"
    assert join_clips(parts, target, overwrite=True).frames == 7
    with pytest.raises(ValueError, match=r"0\.mp4 is one of the clips"):
        join_clips(parts, parts[0], overwrite=True)


def test_a_film_is_whole_or_absent(tmp_path, monkeypatch):
    parts = clips(tmp_path, (3, 4))
    monkeypatch.setattr(
        joining._Writer, "_append_frame", lambda self, packet, shift: self._mux(packet, 0)
    )  # the second clip would begin again at zero
    with pytest.raises((OSError, ValueError)):
        join_clips(parts, tmp_path / "film.mp4")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["0.mp4", "1.mp4"]


def test_a_film_with_other_frames_than_its_clips_gets_no_name(tmp_path, monkeypatch):
    parts = clips(tmp_path, (3, 4))
    monkeypatch.setattr(joining, "_write", lambda clips, part, target: write_clip(part, 7))
    with pytest.raises(ValueError, match="would not be those of the clips"):
        join_clips(parts, tmp_path / "film.mp4")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["0.mp4", "1.mp4"]


def test_what_cannot_be_joined_is_refused(tmp_path):
    (clip,) = clips(tmp_path, (3,))
    with pytest.raises(ValueError, match="no clip"):
        join_clips([], tmp_path / "film.mp4")
    with pytest.raises(ValueError, match=r"nothing\.mp4 does not exist"):
        join_clips([clip, tmp_path / "nothing.mp4"], tmp_path / "film.mp4")
    with pytest.raises(OSError, match="No such file"):
        join_clips([clip], tmp_path / "nowhere" / "film.mp4")


def test_names_are_no_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (clip,) = clips(tmp_path, (3,))
    odd = clip.rename("concat:a|b.mp4")
    assert join_clips([odd], tmp_path / "http:film.mp4").frames == 3
