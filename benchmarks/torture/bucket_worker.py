"""The program that is killed: `seedance batch` into a bucket, with parts of a few kilobytes.

Exit code 0: nothing is left to do; 3: start it again.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.torture.worker import UNFINISHED, Plan
from seedance_async.cli.app import run
from seedance_async.media import multipart

#: So small that the clips of an emulator are uploaded in several parts.
PART_SIZE = 4096

#: Exit codes of the command after which it has accounted for every line.
_ACCOUNTED = (0, 1, 4, 5, 6)


def main(plan: Plan, bucket: str) -> int:
    """One life; the exit code."""
    multipart.PART_SIZE = PART_SIZE
    state = Path(plan.folder, "state")
    code = run(
        [
            "batch",
            "--yes",
            str(plan.input),
            *("-o", bucket, "--state", str(state), "--journal", str(plan.journal)),
            *("--name", "{number}", "--json", "--poll-interval", "0.05", "--timeout", "20"),
            *("--max-in-flight", str(plan.max_in_flight)),
            *("--max-downloads", str(plan.max_downloads)),
        ]
    )
    if code not in _ACCOUNTED:
        return 70
    records = [json.loads(line) for line in (state / "results.jsonl").read_text().splitlines()]
    return UNFINISHED if any(map(_is_unfinished, records)) else 0


def _is_unfinished(record: dict[str, Any]) -> bool:
    if record["state"] == "succeeded":
        return record["file"] is None
    return record["state"] in ("not_submitted", "rejected", "abandoned")


if __name__ == "__main__":
    sys.exit(main(Plan(**json.loads(os.environ["TORTURE_PLAN"])), os.environ["TORTURE_BUCKET"]))
