"""The entry point of the `seedance` command, and its message when the extra `cli` is missing.

Nothing else is imported here, so that a missing `click` or `rich` is one clear line.
"""

import sys
from typing import NoReturn

from seedance_async.cli.exit_codes import ExitCode


def main() -> NoReturn:
    """Run the command with this process's arguments, and exit with its code."""
    try:
        from seedance_async.cli.app import run
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        install = 'pip install "seedance-async[cli]"'
        print(f"seedance: {missing.name} is not installed; {install} installs it", file=sys.stderr)
        sys.exit(ExitCode.CONFIGURATION)
    sys.exit(run(sys.argv[1:]))
