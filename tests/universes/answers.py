"""What the service of a universe answers: status, headers, body, and what broke it, if anything."""

import json

KEY = "sd2_live_k=y/never+to/be=seen"
BASE_URL = "https://api.example"
HOOKS = "https://app.example/hooks"

#: Statuses that say nothing about whether the job was accepted.
AMBIGUOUS = {"408", "409", "499", "500", "502", "503", "504", "302"}

#: Faults after which the answer, if it has the true id, still is a plain acceptance.
ACCEPTANCES = {
    None,
    "slow",
    "very slow",
    "no charge told",
    "odd charge",
    "echo",
    "no route",
    "exit",
    "another id",
}


def json_answer(status, body, **headers):
    """A whole answer; underscores in header names become dashes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, named, json.dumps(body).encode(), None


def error_body(code, message):
    """The API's shape of an error."""
    return {"code": code, "message": message}


def _refusal(status, code="some_code", **headers):
    def answer_of(call):
        return json_answer(status, {"success": False, "error": error_body(code, "no")}, **headers)

    return answer_of


def _refused_for(status):
    def answer_of(call):
        asked = str(call.rng.choice((1, 7, 40, 100000)))
        body = {"success": False, "error": error_body("slow_down", "not now")}
        return json_answer(status, body, retry_after=asked)

    return answer_of


def _echoed(call):
    key = json.dumps(f"the key {KEY}").replace("/", "\\/").replace("=", "\\u003d")
    text = key if call.fault == "escaped echo" else json.dumps(f"the key {KEY} is odd")
    raw = f'{{"success": false, "error": {{"code": "odd", "message": {text}}}}}'
    return 422, {"x-echo": KEY}, raw.encode(), None


def _traced(call):
    body = {"success": False, "error": {**error_body("bad", "no"), "requestId": "req_trace"}}
    return json_answer(422, body)


def ambiguous(fault):
    """An answer that says nothing of whether the job was accepted."""
    if fault == "html":
        return 200, {}, b"<html>ok</html>", None
    headers = {"location": "https://elsewhere.example/"} if fault == "302" else {}
    return 500 if fault == "silent" else int(fault), headers, b"<html>sorry</html>", None


REFUSALS = {
    "400": _refusal(400), "401": _refusal(401, "unauthorized"), "402": _refusal(402),
    "403": _refusal(403, "moderated"), "404": _refusal(404), "422": _refusal(422),
    "429": _refusal(429), "429 soon": _refusal(429, retry_after="7"),
    "429 later": _refused_for(429), "503 later": _refused_for(503),
    "trace id": _traced, "escaped echo": _echoed,
}  # fmt: skip


def _status_of(status):
    def answer_of(call, charge):
        named = charge.request_id if charge is not None else "req_none"
        return json_answer(200, {"success": True, "requestId": named, "status": status})

    return answer_of


QUERY_ANSWERS = {
    "404": lambda call, charge: _refusal(404, "not_found")(call),
    "401": lambda call, charge: _refusal(401, "unauthorized")(call),
    "403": lambda call, charge: _refusal(403, "moderated")(call),
    "429": lambda call, charge: _refusal(429)(call),
    "429 later": lambda call, charge: _refusal(429, retry_after="9")(call),
    "500": lambda call, charge: _refusal(500)(call),
    "503": lambda call, charge: ambiguous("503"),
    "unknown status": _status_of("dreaming"),
    "queued again": _status_of("queued"),
    "another id": lambda call, charge: json_answer(
        200, {"success": True, "requestId": "req_other", "status": "failed"}
    ),
    "html": lambda call, charge: ambiguous("html"),
    "echo": lambda call, charge: _echoed(call),
}
