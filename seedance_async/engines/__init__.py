"""Many machines on one run: what one key's work is, and the engines that hand out keys.

The journal makes the money safe; an engine only hands out keys, and may hand one out twice.
"""

from seedance_async.engines.contract import Queue, QueueError, RunStatus
from seedance_async.engines.task import ID, Outcome, Task
from seedance_async.engines.work import Work

__all__ = ["ID", "Outcome", "Queue", "QueueError", "RunStatus", "Task", "Work"]
