"""A record: what an input file says of one request; and the refusal of what cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from seedance_async import Violation


@attrs.frozen
class Record:
    """What a file says of one request.

    Attributes:
        number: its number in messages, results and names.
        where: how a message about it says where it is.
        given: its names and values, or why it has none.
    """

    number: int
    where: str
    given: Mapping[str, Any] | Violation


class UnreadableError(Exception):
    """The file, or the rest of it, cannot be read.

    Attributes:
        where: the place of the fault.
        violation: what is wrong.
    """

    def __init__(self, where: str, violation: Violation) -> None:
        super().__init__(f"{where}: {violation.rule}")
        self.where, self.violation = where, violation
