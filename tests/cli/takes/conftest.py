"""What the tests of takes share: what a folder has of each line and take."""

import json
from pathlib import Path


def outcomes(folder="videos"):
    """The outcomes in a folder's results.jsonl by line and take; there is one of each."""
    text = (Path(folder) / "results.jsonl").read_text(encoding="utf-8")
    records = [json.loads(row) for row in text.split("\n") if row]
    found = {(record["line"], record["take"]): record for record in records}
    assert len(found) == len(records)
    return found


def prompts(emulator):
    """How often each prompt was bought."""
    return dict(emulator.ledger.charged_prompts())
