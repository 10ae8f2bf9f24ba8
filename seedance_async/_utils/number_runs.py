"""Whole numbers, grouped by those that follow each other."""

from collections.abc import Iterable


def number_runs(numbers: Iterable[int]) -> list[list[int]]:
    """The numbers in order, each once: 4, 5, 6, 10 as [4, 5, 6] and [10]."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs
