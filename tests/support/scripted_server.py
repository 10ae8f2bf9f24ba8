"""An HTTP server whose answers a test writes down beforehand."""

from collections import defaultdict, deque

import attrs
from aiohttp import web


@attrs.frozen
class Call:
    """One request as it arrived."""

    headers: dict
    body: bytes


class ScriptedServer:
    """Answers each method and path by what `on` was given, in that order; keeps the calls."""

    def __init__(self):
        self._script = defaultdict(deque)
        self.calls = []

    async def __aenter__(self):
        self._runner = web.ServerRunner(web.Server(self._answer))
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_):
        await self._runner.cleanup()

    def on(self, method, path, *, repeat=False, **answer):
        """An answer to the next such call, or to all that follow: `payload` is sent as JSON."""
        self._script[method, path].append((answer, repeat))

    async def _answer(self, request):
        self.calls.append(Call(dict(request.headers), await request.read()))
        script = self._script[request.method, request.path]
        if not script:
            return web.Response(status=418, text="no answer is written down for this")
        answer = dict((script[0] if script[0][1] else script.popleft())[0])
        if "payload" in answer:
            return web.json_response(answer.pop("payload"), **answer)
        return web.Response(text=answer.pop("body", ""), **answer)
