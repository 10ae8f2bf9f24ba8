"""What compose.yaml runs, in plain processes: an emulator, three workers, and a batch.

    python run.py PROMPTS FOLDER

The queue is at $SEEDANCE_QUEUE, a `postgresql://…`; without that it is a file in FOLDER. One worker
is killed once it has tasks, and the others go on with them.
"""

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).parent
WORKERS = 3


@contextmanager
def program(*arguments, environment, **options):
    """A Python program, which is told to stop in the end."""
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.Popen(command, env=environment, **options)  # noqa: S603
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def main(prompts: Path, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"SEEDANCE_QUEUE": f"sqlite:///{folder / 'queue.db'}", **os.environ}
    serve = ("-m", "seedance_async.cli", "emulator", "--port=0", "--speed=200", "--media=shared")
    with ExitStack() as programs:
        emulator = programs.enter_context(
            program(*serve, environment=environment, stdout=subprocess.PIPE, text=True)
        )
        for _ in range(2):  # its address and its key
            name, _, value = (
                emulator.stdout.readline().strip().removeprefix("export ").partition("=")
            )
            environment[name] = value
        workers = [
            programs.enter_context(
                program(HERE / "worker.py", folder / "videos", environment=environment)
            )
            for _ in range(WORKERS)
        ]
        batch = programs.enter_context(
            program(
                HERE / "batch.py", prompts, "example",
                environment=environment, stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
        for number, line in enumerate(batch.stdout):
            print(line, end="", flush=True)
            if number == 0:
                workers[0].kill()
        return batch.wait()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
