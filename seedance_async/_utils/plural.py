"""Counted things in words: "1 job", "2 jobs"."""


def counted(count: float, noun: str, plural: str | None = None) -> str:
    """A number and its noun: `1 job`, `2 jobs`, `1.5 seconds` or, with a plural, `2 entries`."""
    number = f"{count:,}" if isinstance(count, int) else f"{count:g}"
    return f"{number} {noun if count == 1 else plural or f'{noun}s'}"
