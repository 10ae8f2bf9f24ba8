"""Text for people: counted things in the right plural, and long text cut short."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number of things, as `1 job`, `2 jobs` or, with its own plural, `2 entries`."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def shorten(text: str, width: int = 60) -> str:
    """The text on one line, cut to the width."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"
