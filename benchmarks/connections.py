"""The cost of sending each submit on a fresh connection.

    python -m benchmarks.connections [--submits 400] [--quick]

A server in another process speaks HTTP and HTTPS on loopback and accepts every submit at once. The
same POSTs go through the SDK's transport, as it is and with connections kept alive, in turns; one
at a time and 20 at a time. The table has the best of three rounds, in milliseconds per submit.
"""

import argparse
import asyncio
import json
import multiprocessing
import ssl
import tempfile
import time
from pathlib import Path

import trustme
from aiohttp import web

from benchmarks.report import draw_bars, report
from seedance_async import AiohttpTransport, Endpoint, WireRequest

SUBMIT = WireRequest("POST", "/submit", b'{"prompt": "A river in autumn"}', charges=True)


class KeptAlive(AiohttpTransport):
    """The transport without that rule: submits share the connections of the other calls."""

    async def send(self, request, *, on_sent=None):
        kept = WireRequest(request.method, request.path, request.body, charges=False)
        return await super().send(kept, on_sent=on_sent)


def serve(ports, certificate):
    async def main():
        async def submit(request):
            await request.read()
            return web.json_response({"requestId": "req_1", "status": "queued"})

        app = web.Application()
        app.router.add_post("/submit", submit)
        runner = web.AppRunner(app)
        await runner.setup()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        for tls in (None, context):
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
            await site.start()
        ports.put([address[1] for address in runner.addresses])
        await asyncio.Event().wait()

    asyncio.run(main())


async def milliseconds(kind, url, context, submits, at_once):
    transport = kind(Endpoint(url, "key"), ssl=context, max_connections=at_once)
    left = iter(range(submits))

    async def work():
        for _ in left:
            response = await transport.send(SUBMIT)
            assert json.loads(response.body)["requestId"] == "req_1"

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    seconds = time.perf_counter() - began
    await transport.aclose()
    return seconds * 1000 / submits


def compared(url, context, submits, at_once):
    """The best of three rounds each, in turns: kept alive, fresh, ratio and difference."""
    best = {KeptAlive: float("inf"), AiohttpTransport: float("inf")}
    for _ in range(3):
        for kind in best:
            work = milliseconds(kind, url, context, submits, at_once)
            best[kind] = min(best[kind], asyncio.run(work))
    kept, fresh = best.values()
    return kept, fresh, fresh / kept, fresh - kept


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--submits", type=int, default=400)
    parser.add_argument("--quick", action="store_true", help="fewer submits")
    chosen = parser.parse_args()
    submits = 100 if chosen.quick else chosen.submits
    authority, context = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(context)
    with tempfile.TemporaryDirectory() as folder:
        certificate = Path(folder, "server.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
        ports = multiprocessing.Queue()
        server = multiprocessing.Process(target=serve, args=(ports, certificate), daemon=True)
        server.start()
        plain, tls = ports.get()
        rows = [
            [f"{name}, {at_once} at a time", *compared(url, context, submits, at_once)]
            for name, url in (
                ("HTTP", f"http://127.0.0.1:{plain}"),
                ("HTTPS", f"https://127.0.0.1:{tls}"),
            )
            for at_once in (1, 20)
        ]
        server.terminate()
        server.join()
    header = [f"ms per submit, {submits} submits", "kept alive", "fresh", "ratio", "difference"]
    report("connections", header=header, rows=rows)
    bars = {}
    for name, kept, fresh, *_ in rows:
        bars |= {f"{name}, kept alive": [kept], f"{name}, fresh": [fresh]}
    draw_bars("connections", {"milliseconds per submit": bars})


if __name__ == "__main__":
    main()
