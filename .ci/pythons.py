#!/usr/bin/env python3
"""Print the Pythons from 3.11 on that this machine has, oldest first: one path a line.

These are the ones on PATH and in the system's folders, and of pyenv's the newest patch of each
minor version. Two of the same version count once.
"""

import os
import subprocess
from pathlib import Path

OLDEST = (3, 11)
ASK = (
    "import sys; real = sys.implementation.name == 'cpython' and sys.prefix == sys.base_prefix; "
    "real and print(*sys.version_info[:3], sys.abiflags or '-', sys.executable)"
)
PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")


def look(executable):
    """Its version, flags and path; nothing where it does not run or is an environment's."""
    try:
        answer = subprocess.run(
            [executable, "-c", ASK], capture_output=True, text=True, timeout=60, check=False
        )
        major, minor, patch, flags, path = answer.stdout.strip().split(" ", 4)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return (int(major), int(minor), int(patch)), flags, path


def found(folders):
    """Each interpreter in these folders once, by version and flags."""
    names = ["python3", *(f"python3.{minor}" for minor in range(OLDEST[1], 30))]
    paths = {(folder / name).resolve() for folder in folders for name in names}
    seen = filter(None, map(look, sorted(path for path in paths if path.is_file())))
    return {(version, flags): path for version, flags, path in seen if version >= OLDEST}


def main():
    path = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    outside = [folder for folder in path if PYENV not in folder.parents]
    pythons = found([*outside, Path("/usr/local/bin"), Path("/usr/bin")])
    newest = {}
    for (version, flags), path in sorted(found(PYENV.glob("versions/*/bin")).items()):
        newest[version[:2], flags] = version, path
    for (_, flags), (version, path) in newest.items():
        pythons.setdefault((version, flags), path)
    print(*(path for _, path in sorted(pythons.items())), sep="\n")


if __name__ == "__main__":
    main()
