"""FastAPI: one session for the whole application.

    python examples/web_app.py [PORT]

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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import attrs
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from seedance_async import (
    APIError,
    Generation,
    GenerationRequest,
    InvalidRequestError,
    Job,
    JobTimeoutError,
    NotFoundError,
    SeedanceError,
    SeedanceSession,
    SubmitUncertainError,
    WebhookReceiver,
)

PUBLIC_URL = os.environ.get("PUBLIC_URL")
receiver = WebhookReceiver(f"{PUBLIC_URL}/hooks/seedance") if PUBLIC_URL else None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    journal = os.environ.get("VIDEOS_JOURNAL", "videos.db")
    session = SeedanceSession(max_in_flight=50, journal=journal, webhooks=receiver)
    app.state.session = await session.open()
    try:
        await session.resume()
        yield
    finally:
        await session.aclose(leave=True, within=3.0)


app = FastAPI(title="Videos", lifespan=lifespan)
if receiver is not None:
    app.mount("/hooks/seedance", receiver.asgi)


def the_session(request: Request) -> SeedanceSession:
    session: SeedanceSession = request.app.state.session
    return session


Session = Annotated[SeedanceSession, Depends(the_session)]


async def the_state(request_id: str, session: Session) -> Generation:
    """What the server says of a job, be it of this process, of an earlier one, or long ended."""
    try:
        return await session.client.get(request_id)
    except (NotFoundError, ValueError) as error:
        raise HTTPException(404, "no such video") from error
    except SeedanceError as error:
        raise HTTPException(502, str(error)) from error


State = Annotated[Generation, Depends(the_state)]


class Order(BaseModel):
    prompt: str
    media_urls: list[str] = []
    aspect_ratio: str | None = None
    duration: int | None = None
    resolution: str | None = None


@app.post("/videos", status_code=202)
async def start(order: Order, session: Session) -> dict[str, Any]:
    """Submit a job; respond as soon as the API has accepted it."""
    try:
        request = GenerationRequest(**order.model_dump())
        # A key of its own: who orders the same again wants another video, in a later process too.
        job = await session.submit(request, key=secrets.token_hex(8))
    except InvalidRequestError as error:
        raise HTTPException(422, str(error)) from error
    except SubmitUncertainError as error:  # perhaps charged: do not ask the user to try again
        raise HTTPException(502, f"this may have been accepted: {error}") from error
    except APIError as error:
        raise HTTPException(502, error.message) from error
    except SeedanceError as error:
        raise HTTPException(503, str(error)) from error
    return {"id": job.request_id, "state": job.state}


@app.get("/videos")
async def running(session: Session) -> list[dict[str, Any]]:
    """The jobs that have not ended."""
    return [{"id": job.request_id, "state": job.state} for job in session.jobs()]


@app.get("/videos/{request_id}")
async def read(now: State, session: Session, wait: float = 0) -> dict[str, Any]:
    """The state of a job; waits up to `wait` seconds, at most 30, for it to end."""
    if wait > 0 and not now.status.is_terminal:
        job = await session.attach(now.request_id)
        try:
            now = await job.wait(min(wait, 30.0))
        except JobTimeoutError:
            now = job.generation or now
        except SeedanceError as error:
            raise HTTPException(502, str(error)) from error
    return {"id": now.request_id, "state": now.status, "url": now.output_url}


@app.get("/videos/{request_id}/events")
async def follow(now: State, session: Session) -> StreamingResponse:
    """The progress of a job as server-sent events, until it has ended."""
    job = await session.attach(now.request_id)
    return StreamingResponse(progress(job), media_type="text/event-stream")


async def progress(job: Job) -> AsyncIterator[str]:
    async for update in job.updates(every=5.0):
        url = job.generation.output_url if job.generation is not None else None
        yield f"data: {json.dumps(attrs.asdict(update) | {'url': url})}\n\n"


@app.delete("/videos/{request_id}", status_code=202)
async def cancel(now: State, session: Session) -> dict[str, Any]:
    """Ask for a cancellation; the job may succeed nevertheless."""
    if not now.status.is_terminal:
        job = await session.attach(now.request_id)
        try:
            await job.cancel()
        except SeedanceError as error:
            raise HTTPException(502, str(error)) from error
    return {"id": now.request_id}


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    # Without the last option a SIGTERM would wait for all who follow a job.
    uvicorn.run(app, port=port, timeout_graceful_shutdown=1)
