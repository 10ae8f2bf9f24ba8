"""Copy the output of the benchmarks into the documents, between the marks that name them.

    python -m benchmarks.document

Every table between marks is the unedited output of a command.
"""

import json
import re
from pathlib import Path

from benchmarks.report import RESULTS

_DOCS = Path(__file__).parent.parent / "docs"
DOCUMENT = _DOCS / "performance.md"
DOCUMENTS = (DOCUMENT, _DOCS / "reliability.md")
_PLACE = re.compile(r"<!-- printed: ([\w/]+) -->\n.*?<!-- end -->", re.DOTALL)


def documented(text: str, results: Path = RESULTS) -> str:
    """The text with the output of each benchmark's last run at its mark."""

    def fill(place: re.Match[str]) -> str:
        name = place[1]
        kept = json.loads((results / f"{name}.json").read_text("utf-8"))
        printed = f"```\n$ {kept['command']}\n{kept['printed']}\n```"
        return f"<!-- printed: {name} -->\n{printed}\n<!-- end -->"

    return _PLACE.sub(fill, text)


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(documented(document.read_text("utf-8")), encoding="utf-8")
