"""What compose.yaml runs, in plain processes: an emulator, three workers, and a batch.

    python run.py PROMPTS FOLDER

The queue is at $SEEDANCE_QUEUE, a `postgresql://…`; without that it is a file in FOLDER. One worker
is killed once there is a video, and the others go on with what it had.
"""

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

WORKERS = 3


@contextmanager
def seedance(*arguments, environment, **options):
    """The command `seedance`, which is told to stop in the end."""
    command = [sys.executable, "-m", "seedance_async.cli", *map(str, arguments)]
    process = subprocess.Popen(command, env=environment, text=True, **options)  # noqa: S603
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def main(prompts: Path, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"SEEDANCE_QUEUE": f"sqlite:///{folder / 'queue.db'}", **os.environ}
    videos = folder / "videos"
    with ExitStack() as programs:

        def start(*arguments, **options):
            return programs.enter_context(seedance(*arguments, environment=environment, **options))

        emulator = start(
            "emulator", "--port=0", "--speed=100", "--media=shared", stdout=subprocess.PIPE
        )
        for _ in range(2):  # its address and its key
            name, _, value = emulator.stdout.readline().removeprefix("export ").partition("=")
            environment[name] = value.strip()
        # A dead worker is noticed after ten seconds, which suits a trial.
        workers = [start("worker", "-o", videos, "--lease=10") for _ in range(WORKERS)]
        batch = start("batch", prompts, "-o", videos, "--yes", "--json", stdout=subprocess.PIPE)
        for number, line in enumerate(batch.stdout):
            print(line, end="", flush=True)
            if number == 0:
                workers[0].kill()
        return batch.wait()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
