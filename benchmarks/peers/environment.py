"""The environment of the peers: made on first use, and anew when the pinned versions change."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

_FOLDER = Path(__file__).parent.parent
_REQUIREMENTS = _FOLDER / "peers-requirements.txt"
_HOME = _FOLDER / ".venv-peers"


def interpreter() -> Path:
    """The Python that has the peers."""
    python = _HOME / "bin" / "python"
    installed = _HOME / "installed.txt"
    wanted = f"{sys.version}\n{_REQUIREMENTS.read_text(encoding='utf-8')}"
    if not installed.exists() or installed.read_text(encoding="utf-8") != wanted:
        sys.stderr.write(f"installing the peers into {_HOME}\n")
        venv.create(_HOME, clear=True, with_pip=True)
        (_HOME / ".gitignore").write_text("*\n", encoding="utf-8")
        pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(_REQUIREMENTS)], check=True)
        installed.write_text(wanted, encoding="utf-8")
    return python
