"""What the server says of its models: read where a documented rule would refuse a request.

It is also read where a limit on credits needs a price that nobody was charged yet. A request that
keeps the documented rules, and has no limit, costs no query. How the list is judged by is
`request`'s affair, and how it is read `protocol`'s.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence

from seedance_async.api.errors import SeedanceError
from seedance_async.api.models import ModelInfo
from seedance_async.api.request import Violation

#: Seconds for which a list of models is taken to be true.
KEPT_SECONDS = 3600.0

#: Seconds that reading it may take: a request waits for it.
ASK_SECONDS = 15.0

#: Seconds after a list that could not be read until it is asked for again.
PAUSE_SECONDS = 30.0

_log = logging.getLogger(__name__)


class Capabilities:
    """The list of models, as the server told it last.

    Args:
        list_models: asks the server for it, and calls `learn`.

    Attributes:
        models: the list; empty while nobody has asked for it.
    """

    def __init__(self, list_models: Callable[[], Awaitable[object]]) -> None:
        self._list_models = list_models
        self.models: tuple[ModelInfo, ...] = ()
        self._good_until, self._turn = -math.inf, asyncio.Lock()

    def learn(self, models: Sequence[ModelInfo]) -> None:
        """The server has told its list."""
        self.models = tuple(models)
        self._good_until = asyncio.get_running_loop().time() + KEPT_SECONDS

    async def may_lift(self, violations: Sequence[Violation]) -> bool:
        """Whether to judge a request again because the list has just been read.

        Args:
            violations: what the request breaks by what was known so far. The list is read only if
                it can lift all of them, and was not read within the hour.
        """
        if not all(violation.of_model for violation in violations) or self._is_good():
            return False
        async with self._turn:
            return self._is_good() or await self._ask()

    async def read(self) -> tuple[ModelInfo, ...]:
        """The list: what was read within the hour, else the server's answer, else what is known.

        All who need it wait for the same query, and the next one asks if a caller breaks it off.
        Whoever comes soon after one that failed goes by what is known. Never raises.
        """
        async with self._turn:
            if not self._is_good():
                await self._ask()
        return self.models

    def _is_good(self) -> bool:
        return asyncio.get_running_loop().time() < self._good_until

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                await self._list_models()
        except (SeedanceError, TimeoutError) as error:
            reason = str(error) or f"no answer within {ASK_SECONDS:.0f} s"
            _log.warning("the list of models could not be read; what is known holds: %s", reason)
            self._good_until = asyncio.get_running_loop().time() + PAUSE_SECONDS
            return False
        return True
