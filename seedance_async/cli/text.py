"""Text for people: long text cut short."""

from __future__ import annotations


def shorten(text: str, width: int = 60) -> str:
    """The text on one line, cut to the width."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"
