"""Counted things in words: "1 job", "2 jobs"."""


def counted(count: int, noun: str) -> str:
    """A count and its noun, whose plural ends in s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
