"""Limits: the 429s that are not faults, on submits per second and on active jobs."""

import math
import time

from seedance_async.emulator.answers import Refused
from seedance_async.emulator.jobs import Jobs
from seedance_async.emulator.options import EmulatorOptions


class Limits:
    """A token bucket for submits and a bound on active jobs, as the options say.

    ASSUMPTION: the vendor documents no limit; a refused submit is never charged.
    """

    def __init__(self, options: EmulatorOptions, jobs: Jobs) -> None:
        self._rate, self._burst = options.submit_rate, options.submit_burst
        self._max_active, self._jobs = options.max_active, jobs
        self._tokens, self._filled_at = float(self._burst), time.monotonic()

    def admit(self, account: str) -> None:
        """Admit one submit.

        Raises:
            Refused: 429 with Retry-After in whole seconds.
        """
        if self._max_active is not None and self._jobs.active >= self._max_active:
            self._refuse(f"Too many active jobs; the limit is {self._max_active}", 1.0, account)
        if self._rate is None:
            return
        now = time.monotonic()
        filled = self._tokens + (now - self._filled_at) * self._rate
        self._tokens, self._filled_at = min(float(self._burst), filled), now
        if self._tokens < 1:
            self._refuse("Too many submits", (1 - self._tokens) / self._rate, account)
        self._tokens -= 1

    @staticmethod
    def _refuse(message: str, seconds: float, account: str) -> None:
        headers = {"Retry-After": str(math.ceil(seconds))}
        raise Refused(429, message, account=account, headers=headers)
