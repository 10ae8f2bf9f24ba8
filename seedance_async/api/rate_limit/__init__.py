"""Who may send now: the gate, which a rate limit closes for all callers, and a rate's budget.

All coroutines of a session share them, and a cancellation leaves them intact. Time is the event
loop's monotonic clock. Nothing here knows what is sent.
"""

from seedance_async.api.rate_limit.gate import Gate
from seedance_async.api.rate_limit.rate import RateBudget
from seedance_async.api.rate_limit.state import GateState

__all__ = ["Gate", "GateState", "RateBudget"]
