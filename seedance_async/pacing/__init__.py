"""Who may send now: the gate that a rate limit closes for everyone, and the budget of polls.

Both are shared by all coroutines of a session and safe under cancellation. Time is the event
loop's monotonic clock. Nothing here knows what is sent.
"""

from seedance_async.pacing.budget import RateBudget
from seedance_async.pacing.gate import Gate

__all__ = ["Gate", "RateBudget"]
