"""Downloads compared with curl: the same files from a local nginx into the same folder.

    python -m benchmarks.download [--quick] [--folder DIR] [--rounds 3] [--at-once 4]

Needs nginx (Debian: `apt-get install nginx-light`) and curl. nginx serves hard links to a few files
of random bytes in the boxes of an MP4, so that they are read from memory. Each rival fetches all
of them with the same parallelism, in turns, into a fresh folder that is removed afterwards. The SDK
is `Downloader` on `AiohttpTransport`, as a session uses them, in a process of its own; its clock
starts once that process has imported the package. The table has medians; "vs curl" is the median of
the rounds' ratios.

curl neither syncs nor hashes what it saves; in the second row `sha256sum` and `sync` follow it,
which is what the SDK does while it downloads. Memory is the peak of the SDK's process (VmHWM), with
few files (but more than run at once) and with all. CPU seconds exclude nginx.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from benchmarks.report import Target, draw_bars, report
from seedance_async import Generation, GenerationStatus, RetryPolicy, Timeouts
from seedance_async.api.long_waits import Waits
from seedance_async.api.options import Endpoint
from seedance_async.api.transport import AiohttpTransport
from seedance_async.jobs.downloads.downloader import Downloader

SOURCES = 4
NGINX_CONFIG = """
daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; {user}
worker_processes auto;
events {{ worker_connections 256; }}
http {{
    access_log off; sendfile on; tcp_nopush on; default_type video/mp4;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {folder}/served; }}
}}
"""


@attrs.frozen
class Run:
    """The cost of one rival's run over all files."""

    seconds: float
    cpu: float
    megabytes: float
    peak_mb: float | None = None

    @property
    def rate(self) -> float:
        """Megabytes per second."""
        return self.megabytes / self.seconds


@attrs.frozen
class Site:
    """The files that nginx serves."""

    url: str
    megabytes: int
    digests: list[str]

    def address(self, number: int) -> str:
        """The URL of one of the files."""
        return f"{self.url}/{number}.mp4"


# --- the served files ----------------------------------------------------------------------------


@contextlib.contextmanager
def serving(folder: Path, files: int, megabytes: int) -> Iterator[Site]:
    """An nginx on a free port, until the end of the block."""
    digests = _make_files(folder / "served", files, megabytes)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(folder=folder, port=port, user=user))
    nginx = subprocess.Popen(["nginx", "-c", str(config)])
    try:
        _wait_for(port)
        yield Site(f"http://127.0.0.1:{port}", megabytes, digests)
    finally:
        nginx.terminate()
        nginx.wait()


def _make_files(folder: Path, files: int, megabytes: int) -> list[str]:
    folder.mkdir()
    digests = []
    for number in range(files):
        path = folder / f"{number}.mp4"
        if number < SOURCES:
            data = _video(megabytes)
            path.write_bytes(data)
            digests.append(hashlib.sha256(data).hexdigest())
        else:
            path.hardlink_to(folder / f"{number % SOURCES}.mp4")
    return digests


def _video(megabytes: int) -> bytes:
    """Random bytes in the boxes of an MP4."""
    boxes = [_box(b"ftyp", b"isom" * 4), _box(b"moov", os.urandom(20_000))]
    size = megabytes * 1_000_000 - sum(map(len, boxes)) - 8
    return b"".join([*boxes, _box(b"mdat", os.urandom(size))])


def _box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(payload), kind) + payload


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise SystemExit("nginx did not start")


# --- the rivals ----------------------------------------------------------------------------------


def by_curl(site: Site, files: int, folder: Path, at_once: int) -> Run:
    """Plain curl."""
    pairs = (f'url = "{site.address(n)}"\noutput = "{folder}/{n}.mp4"\n' for n in range(files))
    config = folder / "curl.config"
    config.write_text("".join(pairs))
    return _timed(_curl_command(config, at_once), site.megabytes * files)


def by_curl_and_sums(site: Site, files: int, folder: Path, at_once: int) -> Run:
    """curl; then a checksum of every file, as many at once as there are cores, and a sync."""
    fetched = by_curl(site, files, folder, at_once)
    names = "\n".join(str(folder / f"{number}.mp4") for number in range(files))
    sums = ["xargs", "-P", str(os.cpu_count()), "-n", "4", "sha256sum"]
    checked = _timed(sums, 0, names)
    synced = _timed(["xargs", "sync"], 0, names)
    return Run(
        fetched.seconds + checked.seconds + synced.seconds,
        fetched.cpu + checked.cpu + synced.cpu,
        fetched.megabytes,
    )


def by_sdk(site: Site, files: int, folder: Path, at_once: int) -> Run:
    """The SDK, in a process of its own."""
    task = {"site": attrs.asdict(site), "files": files, "folder": str(folder), "at_once": at_once}
    command = [sys.executable, "-m", "benchmarks.download", "--one", json.dumps(task)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Run(**json.loads(done.stdout))


def _curl_command(config: Path, at_once: int) -> list[str]:
    parallel = ["--parallel", "--parallel-immediate", "--parallel-max", str(at_once)]
    return ["curl", "--silent", "--fail", *parallel, "--config", str(config)]


def _timed(command: list[str], megabytes: float, given: str = "") -> Run:
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, check=True, input=given, stdout=subprocess.DEVNULL, text=True)
    seconds, after = time.perf_counter() - began, os.times()
    cpu = after.children_user + after.children_system
    return Run(seconds, cpu - before.children_user - before.children_system, megabytes)


def measure_sdk(task: dict[str, Any]) -> Run:
    """In the SDK's own process: fetch all files, and check that they are saved as served."""
    site, files, at_once = Site(**task["site"]), task["files"], task["at_once"]
    cpu, began = time.process_time(), time.perf_counter()
    sums = asyncio.run(_save_all(site, files, Path(task["folder"]), at_once))
    seconds = time.perf_counter() - began
    assert sums == [site.digests[number % SOURCES] for number in range(files)]
    return Run(seconds, time.process_time() - cpu, site.megabytes * files, _peak_mb())


async def _save_all(site: Site, files: int, folder: Path, at_once: int) -> list[str]:
    timeouts = Timeouts()
    transport = AiohttpTransport(Endpoint(site.url, "key"), timeouts=timeouts)
    downloader = Downloader(
        transport,
        _no_refresh,
        limit=at_once,
        retry=RetryPolicy(),
        timeouts=timeouts,
        rng=random.Random(1),
        waits=Waits("the host"),
    )

    async def save(number: int) -> str:
        job = Generation(
            f"req_{number}", GenerationStatus.SUCCEEDED, output_url=site.address(number)
        )
        return (await downloader.save(job, folder / f"{number}.mp4")).sha256

    try:
        return await asyncio.gather(*map(save, range(files)))
    finally:
        await transport.aclose()


async def _no_refresh(request_id: str) -> Generation:
    raise AssertionError(f"the URL of {request_id} is still valid")


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000


# --- the comparison ------------------------------------------------------------------------------

RIVALS = {
    "curl": by_curl,
    "curl, then sha256sum and sync": by_curl_and_sums,
    "seedance_async": by_sdk,
}


def compared(
    site: Site, files: int, folder: Path, at_once: int, rounds: int
) -> dict[str, list[Run]]:
    """The runs of each rival; they take turns, in reverse order every other time."""
    runs: dict[str, list[Run]] = {name: [] for name in RIVALS}
    for number in range(rounds):
        for name in sorted(RIVALS, reverse=number % 2 == 1):
            runs[name].append(_in_fresh_folder(RIVALS[name], site, files, folder, at_once))
    return runs


def _in_fresh_folder(rival: Any, site: Site, files: int, folder: Path, at_once: int) -> Run:
    target = folder / "saved"
    target.mkdir()
    os.sync()
    try:
        run: Run = rival(site, files, target, at_once)
        return run
    finally:
        shutil.rmtree(target)


def _median(runs: list[Run]) -> Run:
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def _relative(runs: list[Run], others: list[Run]) -> float:
    """The throughput relative to the others': the median of the rounds' ratios."""
    pairs = zip(runs, others, strict=True)
    return statistics.median(run.rate / other.rate for run, other in pairs)


def _peak(runs: list[Run]) -> float:
    return max(run.peak_mb or 0.0 for run in runs)


def _row(name: str, run: Run, relative: float | str) -> list[Any]:
    memory = "" if run.peak_mb is None else round(run.peak_mb)
    return [name, round(run.megabytes), run.seconds, round(run.rate), relative, run.cpu, memory]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="40 files and one round")
    parser.add_argument("--folder", help="where to keep the files during the run; 5 GB")
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(attrs.asdict(measure_sdk(json.loads(chosen.one)))))
        return
    for needed in ("nginx", "curl"):
        if shutil.which(needed) is None:
            raise SystemExit(f"this needs {needed} (Debian: apt-get install nginx-light curl)")
    files, rounds = (40, 1) if chosen.quick else (chosen.files, chosen.rounds)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        folder.chmod(0o755)
        with serving(folder, files, chosen.megabytes) as site:
            several = max(files // 10, 2 * chosen.at_once)
            few = [
                _in_fresh_folder(by_sdk, site, several, folder, chosen.at_once)
                for _ in range(rounds)
            ]
            runs = compared(site, files, folder, chosen.at_once, rounds)
    curl, sdk = runs["curl"], runs["seedance_async"]
    growth = _peak(sdk) - _peak(few)
    report(
        "download",
        header=["", "MB", "seconds", "MB/s", "vs curl", "CPU s", "peak MB"],
        rows=[
            *(_row(name, _median(of), round(_relative(of, curl), 2)) for name, of in runs.items()),
            _row(f"seedance_async, {several} files", _median(few), ""),
        ],
        details={
            "at once": chosen.at_once,
            "load average": os.getloadavg(),
            "runs": {name: [attrs.asdict(run) for run in of] for name, of in runs.items()},
        },
        targets=[
            Target("throughput relative to plain curl", _relative(sdk, curl), at_least=0.9),
            Target(
                f"growth of peak memory from {several} to {files} files, MB", growth, at_most=10
            ),
        ],
    )
    draw_bars(
        "download",
        {
            "MB/s": {name: [run.rate for run in of] for name, of in runs.items()},
            "CPU seconds": {name: [run.cpu for run in of] for name, of in runs.items()},
        },
    )


if __name__ == "__main__":
    main()
