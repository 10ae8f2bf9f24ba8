"""Text of any script in the emulator's clips."""

from PIL import Image, ImageDraw

from seedance_async.emulator.lettering import draw, drawable, is_drawable, lines_of, width_of
from seedance_async.emulator.render import Picture, still

SIZE = 34


def written(text: str) -> bytes:
    image = Image.new("L", (400, 60))
    draw(ImageDraw.Draw(image), (4, 4), drawable(text), SIZE)
    return image.tobytes()


def test_characters_that_the_font_lacks_are_boxes_that_can_be_told_apart() -> None:
    assert not is_drawable("秋")
    pictures = {written(text) for text in ("秋", "川", "강", "Ж", "🙂", "", "a")}
    assert len(pictures) == 7


def test_accents_and_dashes_are_left_out_rather_than_boxed() -> None:
    assert drawable("Une rivière\u2014à l'aube") == "Une riviere-a l'aube"
    assert drawable("e\u0301te\u0301").replace("\u0301", "") == "ete"
    assert written("rivière") == written("riviere")


def test_a_combining_mark_takes_no_room() -> None:
    assert width_of("e\u0301", SIZE) == width_of("e", SIZE)


def test_lines_are_broken_at_spaces_and_between_boxes() -> None:
    assert lines_of("A river in autumn", SIZE, 130) == ["A river", "in", "autumn"]
    assert lines_of("秋の川をゆっくり", SIZE, 4 * SIZE) == ["秋の川を", "ゆっくり"]
    assert lines_of("秋の川 in autumn", SIZE, 4 * SIZE) == ["秋の川", "in", "autumn"]
    assert lines_of("  ", SIZE, 100) == []
    assert "".join(lines_of("w" * 40, SIZE, 100)) == "w" * 40
    assert len(lines_of("w " * 5000, SIZE, 100, 5)) == 5
    for line in lines_of("A river 秋の川をゆっくり下る船から見る紅葉 in autumn", SIZE, 200):
        assert width_of(line, SIZE) <= 200


def test_two_prompts_in_japanese_make_two_pictures() -> None:
    caption = {"caption": "", "resolution": "480p", "aspect_ratio": "16:9", "duration": 4}
    one, other = (still(Picture(title=title, **caption)) for title in ("秋の川", "冬の山"))  # type: ignore[arg-type]
    assert one.tobytes() != other.tobytes()
