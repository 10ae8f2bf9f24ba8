"""A coverage-guided fuzzer for `protocol`: it raises only the documented errors.

    make fuzz            # for a minute; FUZZ_SECONDS=600 for longer

Besides, an accepted request id can be polled, and a charge is never negative.
"""

import itertools
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=[
        "seedance_async.api.protocol",
        "seedance_async.api.backoff",
        "seedance_async.api.retry",
    ]
):
    from seedance_async.api import protocol, retry
    from seedance_async.api.errors import SeedanceError
    from seedance_async.api.protocol import WireResponse

FOLDER = Path(__file__).parents[1] / ".fuzz"
STATUSES = (200, 201, 204, 302, 400, 401, 402, 403, 404, 409, 429, 500, 502, 503, 599, 999)
SEEDS = (
    b'{"success": true, "requestId": "req_1234567890", "status": "queued", "creditsCharged": 64}',
    b'{"success": false, "error": {"code": "unauthorized", "message": "Invalid API key"}}',
    b'{"requestId": "r", "status": "succeeded", "output": {"type": "video", "url": "https://x/y"}}',
    b'{"success": true, "data": [{"id": "seedance-2.0", "durations": [4, 5]}]}',
)

WORDS = (
    *("requestId", "status", "output", "url", "error", "code", "message", "success", "data"),
    *("creditsCharged", "null", "true", "false", "queued", "succeeded", "1e999", "NaN", "-1"),
    *(r"\\ud800", r"\x22:", r"\x22,\x22", "[[[[", "}}}}", "Tue, 14 Nov 2023 22:13:20 GMT"),
)


def test_one_input(data):
    """A byte for the status, one for whether the body is cut, a header up to a NUL, a body."""
    if len(data) < 2:
        return
    header, _, body = data[2:].partition(b"\0")
    text = header.decode("latin-1")
    headers = {"retry-after": text, "date": text[::-1]} if header else {}
    status = STATUSES[data[0] % len(STATUSES)]
    response = WireResponse(status, headers, body, "cut short" if data[1] & 1 else None)
    for decode in (
        protocol.decode_create,
        lambda r: protocol.decode_get(r, "req_1234567890"),
        protocol.decode_models,
    ):
        try:
            answer = decode(response)
        except SeedanceError as error:
            retry.judge_submit(error)
            retry.judge_repeatable(error)
            str(error)
        else:
            check(answer)


def check(answer):
    if isinstance(answer, protocol.Submission):
        assert protocol.build_get(answer.request_id).path.startswith("/api/open/v1/")
        assert answer.credits_charged is None or answer.credits_charged >= 0


def main():
    """Start from the answers on the vendor's pages, whole and cut short, and JSON's keywords."""
    corpus, words = FOLDER / "corpus", FOLDER / "words"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, (status, body) in enumerate(itertools.product(range(len(STATUSES)), SEEDS)):
        for broken, cut in ((0, None), (1, -5)):
            data = bytes([status, broken]) + b"120\0" + body[:cut]
            test_one_input(data)
            Path(corpus, f"{number}-{broken}").write_bytes(data)
    words.write_text("".join(f'"{word}"\n' for word in WORDS))
    atheris.Setup([*sys.argv, f"-dict={words}", str(corpus)], test_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
