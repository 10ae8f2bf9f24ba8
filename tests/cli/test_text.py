"""Counted things and shortened text."""

from seedance_async._utils.plural import counted
from seedance_async.cli.text import shorten


def test_one_thing_is_singular_and_any_other_number_plural():
    assert [counted(n, "job") for n in (0, 1, 2, 1234)] == [
        "0 jobs",
        "1 job",
        "2 jobs",
        "1,234 jobs",
    ]
    assert counted(2, "entry", "entries") == "2 entries"


def test_long_text_is_cut_and_put_on_one_line():
    assert shorten("a\n b") == "a b"
    assert shorten("x" * 100, 10) == "x" * 9 + "…"
