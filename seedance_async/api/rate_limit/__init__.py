"""Who may send now: the gate that a rate limit closes for everyone, and the budget of a rate.

All coroutines of a session share them, and a cancellation leaves them intact. Time is the event
loop's monotonic clock. Nothing here knows what is sent.
"""

from seedance_async.api.rate_limit.gate import Gate
from seedance_async.api.rate_limit.rate import RateBudget

__all__ = ["Gate", "RateBudget"]
