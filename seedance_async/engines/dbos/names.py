"""What queue and workers call things in DBOS. A change of any of these strands what is queued."""

from __future__ import annotations

from urllib.parse import quote, unquote

#: The application that owns the workflows and the queue, in a database that others may use, too.
APPLICATION = "seedance"

#: The version of the application. It is not that of the package: a new release goes on with what an
#: old one has queued, and the other way round, as long as tasks and outcomes can be read.
VERSION = "seedance-1"

#: The workflow that makes one task.
MAKE = "seedance.make"

#: The queue of tasks.
QUEUE = "seedance"

#: The workflow that is never run: each of its rows says what was cancelled.
CANCEL = "seedance.cancel"

#: The queue of what was cancelled. No worker listens to it.
CANCELS = "seedance-cancels"


def workflow_id(run: str, key: str) -> str:
    """The id of the workflow that makes a key of a run."""
    return prefix_of(run) + key


def prefix_of(run: str) -> str:
    """What the ids of a run's workflows begin with, and those of no other run."""
    if not run.strip():
        raise ValueError("the name of a run must not be blank")
    return f"{quote(run, safe='')}/"


def run_in(workflow_id: str) -> str:
    """The run of a workflow."""
    return unquote(workflow_id.partition("/")[0])


def key_in(workflow_id: str) -> str:
    """The key of a workflow."""
    return workflow_id.partition("/")[2]
