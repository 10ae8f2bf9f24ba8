"""The torture of `seedance batch -o s3://…`: the command is killed, and the bucket is judged."""

from __future__ import annotations

import contextlib
import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import obstore
from moto.s3 import models
from obstore.store import S3Store

from benchmarks.torture.worker import Plan
from tests.support.s3 import environment_of, options_of, s3_server

WORKER = (sys.executable, "-W", "error", "-m", "benchmarks.torture.bucket_worker")

_NAME = "torture"


class BucketShelf:
    """A prefix of a bucket on a server that speaks S3."""

    def __init__(self, server: str, prefix: str) -> None:
        self._server, self._prefix = server, prefix
        self._store = S3Store(_NAME, prefix=prefix, **options_of(server))

    def names(self) -> list[str]:
        listed = (meta["path"] for metas in obstore.list(self._store) for meta in metas)
        return [name for name in listed if name.endswith(".mp4")]

    def content(self, name: str) -> bytes:
        try:
            return bytes(obstore.get(self._store, name).bytes())
        except FileNotFoundError:
            return b""

    def place(self, name: str) -> str:
        return f"s3://{_NAME}/{self._prefix}/{name}"

    def leftovers(self) -> int:
        with urllib.request.urlopen(f"{self._server}/{_NAME}?uploads") as answer:
            return int(answer.read().count(f"<Key>{self._prefix}/".encode()))


@attrs.frozen
class Bucket:
    """A running server with a bucket."""

    server: str

    def options(self, plan: Plan) -> dict[str, Any]:
        """How a batch of `killing` is run into the bucket."""
        rows = (
            {"prompt": each.prompt, "number": plan.video(each.prompt).stem, **_settings(each)}
            for each in plan.requests()
        )
        plan.input.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {
            "command": WORKER,
            "shelf": BucketShelf(self.server, plan.name),
            "environment": {
                **environment_of(self.server),
                "SEEDANCE_BASE_URL": plan.url,
                "SEEDANCE_STATE_DIR": str(Path(plan.folder, "user")),
                "TORTURE_BUCKET": f"s3://{_NAME}/{plan.name}/",
            },
        }


@contextlib.contextmanager
def bucket() -> Iterator[Bucket]:
    """A server with an empty bucket, which takes parts of any size."""
    usual = models.S3_UPLOAD_PART_MIN_SIZE
    models.S3_UPLOAD_PART_MIN_SIZE = 1
    try:
        with s3_server(_NAME) as server:
            yield Bucket(server)
    finally:
        models.S3_UPLOAD_PART_MIN_SIZE = usual


def _settings(request: Any) -> dict[str, Any]:
    return {
        "duration": request.duration,
        "aspect_ratio": request.aspect_ratio,
        "resolution": request.resolution,
    }
