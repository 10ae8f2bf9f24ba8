"""What it costs that a submit never reuses a connection.

    python benchmarks/connections.py [--submits 400]

A server in another process speaks HTTP and HTTPS on loopback and takes every submit at once. The
same POSTs go through the SDK's transport, once as it is and once with connections kept alive, in
turns; one at a time and 20 at a time. Printed is the best of three rounds: milliseconds a submit.
"""

import argparse
import asyncio
import datetime
import json
import multiprocessing
import os
import platform
import ssl
import sys
import tempfile
import time
from pathlib import Path

import trustme
from aiohttp import web

from seedance_async import AiohttpTransport, Endpoint, WireRequest

SUBMIT = WireRequest("POST", "/submit", b'{"prompt": "A river in autumn"}', charges=True)


class KeptAlive(AiohttpTransport):
    """The transport as it would be without the rule: submits share the other calls' connections."""

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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--submits", type=int, default=400)
    chosen = parser.parse_args()
    authority, context = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(context)
    with tempfile.TemporaryDirectory() as folder:
        certificate = Path(folder, "server.pem")
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
        ports = multiprocessing.Queue()
        server = multiprocessing.Process(target=serve, args=(ports, certificate), daemon=True)
        server.start()
        plain, tls = ports.get()
        print(
            f"{datetime.date.today()}, {os.cpu_count()} cores, {platform.machine()}, "
            f"Python {sys.version.split()[0]}, {chosen.submits} submits, ms a submit"
        )
        print(f"{'':24}{'kept alive':>12}{'fresh':>10}{'ratio':>8}{'more':>10}")
        for name, url in (
            ("HTTP", f"http://127.0.0.1:{plain}"),
            ("HTTPS", f"https://127.0.0.1:{tls}"),
        ):
            for at_once in (1, 20):
                best = {KeptAlive: float("inf"), AiohttpTransport: float("inf")}
                for _ in range(3):
                    for kind in best:
                        work = milliseconds(kind, url, context, chosen.submits, at_once)
                        best[kind] = min(best[kind], asyncio.run(work))
                kept, fresh = best.values()
                print(
                    f"{name + f', {at_once} at a time':24}{kept:12.2f}{fresh:10.2f}"
                    f"{fresh / kept:8.1f}{fresh - kept:7.2f} ms"
                )
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
