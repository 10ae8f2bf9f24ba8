"""aiohttp.web: one session for the whole application. The same as web_app.py without FastAPI.

    python examples/web_app_aiohttp.py [PORT]

    POST   /videos               {"prompt": "A river"} starts a job and answers with its id
    GET    /videos               the jobs that are running
    GET    /videos/ID            a job's state and the URL of its video; ?wait=30 waits for the end
    GET    /videos/ID/events     its progress, as server-sent events
    DELETE /videos/ID            asks for its cancellation

A SIGTERM ends the application within seconds and leaves the jobs running at the server; the next
start takes them up. They are recorded in the journal that VIDEOS_JOURNAL names, else videos.db. If
PUBLIC_URL is set, https://app.example say, the server calls back below it when a job has ended.
"""

import json
import os
import secrets
import sys

import attrs
from aiohttp import web

from seedance_async import (
    Generation,
    GenerationRequest,
    InvalidRequestError,
    JobTimeoutError,
    NotFoundError,
    SeedanceError,
    SeedanceSession,
    SubmitUncertainError,
    WebhookReceiver,
)

SESSION = web.AppKey("session", SeedanceSession)
ORDER = {"prompt", "media_urls", "aspect_ratio", "duration", "resolution"}
routes = web.RouteTableDef()


def problem(kind: type[web.HTTPException], error: object) -> web.HTTPException:
    body = json.dumps({"detail": str(error)})
    return kind(text=body, content_type="application/json")


async def the_state(request: web.Request) -> Generation:
    """What the server says of a job, be it of this process, of an earlier one, or long ended."""
    try:
        return await request.app[SESSION].client.get(request.match_info["id"])
    except (NotFoundError, ValueError):
        raise problem(web.HTTPNotFound, "no such video") from None
    except SeedanceError as error:
        raise problem(web.HTTPBadGateway, error) from error


@routes.post("/videos")
async def start(request: web.Request) -> web.Response:
    """Submit a job; respond as soon as the API has accepted it."""
    try:
        order = await request.json()
        wanted = GenerationRequest(**{name: order[name] for name in ORDER & set(order)})
    except (ValueError, TypeError) as error:
        raise problem(web.HTTPUnprocessableEntity, error) from error
    try:
        # A key of its own: who orders the same again wants another video, in a later process too.
        job = await request.app[SESSION].submit(wanted, key=secrets.token_hex(8))
    except InvalidRequestError as error:
        raise problem(web.HTTPUnprocessableEntity, error) from error
    except SubmitUncertainError as error:  # perhaps charged: do not ask the user to try again
        raise problem(web.HTTPBadGateway, f"this may have been accepted: {error}") from error
    except SeedanceError as error:
        raise problem(web.HTTPBadGateway, error) from error
    return web.json_response({"id": job.request_id, "state": job.state}, status=202)


@routes.get("/videos")
async def running(request: web.Request) -> web.Response:
    """The jobs that have not ended."""
    jobs = request.app[SESSION].jobs()
    return web.json_response([{"id": job.request_id, "state": job.state} for job in jobs])


@routes.get("/videos/{id}")
async def read(request: web.Request) -> web.Response:
    """The state of a job; waits up to `wait` seconds, at most 30, for it to end."""
    now = await the_state(request)
    try:
        wait = float(request.query.get("wait", 0))
    except ValueError as error:
        raise problem(web.HTTPUnprocessableEntity, error) from error
    if wait > 0 and not now.status.is_terminal:
        job = await request.app[SESSION].attach(now.request_id)
        try:
            now = await job.wait(min(wait, 30.0))
        except JobTimeoutError:
            now = job.generation or now
        except SeedanceError as error:
            raise problem(web.HTTPBadGateway, error) from error
    return web.json_response({"id": now.request_id, "state": now.status, "url": now.output_url})


@routes.get("/videos/{id}/events")
async def follow(request: web.Request) -> web.StreamResponse:
    """The progress of a job as server-sent events, until it has ended."""
    now = await the_state(request)
    job = await request.app[SESSION].attach(now.request_id)
    events = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await events.prepare(request)
    async for update in job.updates(every=5.0):
        url = job.generation.output_url if job.generation is not None else None
        data = json.dumps(attrs.asdict(update) | {"url": url})
        await events.write(f"data: {data}\n\n".encode())
    return events


@routes.delete("/videos/{id}")
async def cancel(request: web.Request) -> web.Response:
    """Ask for a cancellation; the job may succeed nevertheless."""
    now = await the_state(request)
    if not now.status.is_terminal:
        job = await request.app[SESSION].attach(now.request_id)
        try:
            await job.cancel()
        except SeedanceError as error:
            raise problem(web.HTTPBadGateway, error) from error
    return web.json_response({"id": now.request_id}, status=202)


async def open_session(app: web.Application) -> None:
    await app[SESSION].open()
    await app[SESSION].resume()


async def leave_session(app: web.Application) -> None:
    """Before connections are closed: who follows a job is told that this process has left it."""
    await app[SESSION].aclose(leave=True, within=3.0)


def make_app() -> web.Application:
    app = web.Application()
    app.add_routes(routes)
    public_url = os.environ.get("PUBLIC_URL")
    receiver = WebhookReceiver(f"{public_url}/hooks/seedance") if public_url else None
    if receiver is not None:
        app.router.add_post("/hooks/seedance/{nonce}", receiver.aiohttp_handler)
    journal = os.environ.get("VIDEOS_JOURNAL", "videos.db")
    app[SESSION] = SeedanceSession(max_in_flight=50, journal=journal, webhooks=receiver)
    app.on_startup.append(open_session)
    app.on_shutdown.append(leave_session)
    return app


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    web.run_app(make_app(), host="127.0.0.1", port=port, shutdown_timeout=1.0)
