"""Who may send now: the gate that a rate limit closes for everyone, and the budget of polls.

Both are shared by all coroutines of a session and safe under cancellation. Time is the event
loop's monotonic clock. Nothing here knows what is sent.
"""

from seedance_async.api.rate_limit.gate import Gate
from seedance_async.api.rate_limit.rate import RateBudget

__all__ = ["Gate", "RateBudget"]
