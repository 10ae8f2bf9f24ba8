"""What a gate does now, and whether it has changed so much that somebody should hear of it."""

from __future__ import annotations

import attrs

#: A hold of fewer seconds is part of every rate limit, and nobody is told.
LONG_HOLD = 5.0

#: A limit has changed if it is this many times what it was, or the other way round.
CHANGED = 1.5

#: Refusals by chance are worth telling from this share on.
MUCH_NOISE = 0.02


@attrs.frozen
class GateState:
    """A gate at one moment.

    Attributes:
        held_for: seconds until the next call is admitted; 0 while the gate is open.
        rate: calls a second that the server seems to allow; None while no limit is known.
        limit: the same for jobs at once.
        noise: the share of calls that is refused however few are sent.
    """

    held_for: float = 0.0
    rate: float | None = None
    limit: int | None = None
    noise: float = 0.0

    def differs(self, told: GateState) -> bool:
        """Whether the change since that state is worth telling."""
        return (
            (self.held_for >= LONG_HOLD) != (told.held_for >= LONG_HOLD)
            or _has_moved(self.rate, told.rate)
            or _has_moved(self.limit, told.limit)
            or (self.noise >= MUCH_NOISE) != (told.noise >= MUCH_NOISE)
        )

    def __str__(self) -> str:
        parts = [f"held for {self.held_for:.0f} s"] if self.held_for >= LONG_HOLD else []
        parts += [f"at most {self.rate:.3g} a second"] if self.rate is not None else []
        parts += [f"at most {self.limit} jobs at once"] if self.limit is not None else []
        parts += [f"{self.noise:.0%} refused by chance"] if self.noise >= MUCH_NOISE else []
        return ", ".join(parts) or "open, no limit known"


def _has_moved(now: float | None, before: float | None) -> bool:
    if now is None or before is None:
        return now is not before
    return not 1 / CHANGED < now / before < CHANGED
