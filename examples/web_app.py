"""FastAPI: one session for the whole application.

    uvicorn examples.web_app:app

One request starts a job and another reads it, even after a restart: the application keeps nothing
but the server's request id. If the application stops with an error, running jobs go on at the
server, and their ids are in the log.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

from seedance_async import (
    APIError,
    GenerationRequest,
    InvalidRequestError,
    JobTimeoutError,
    NotFoundError,
    SeedanceError,
    SeedanceSession,
    SubmitUncertainError,
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with SeedanceSession(max_in_flight=50) as session:
        app.state.session = session
        yield


app = FastAPI(title="Videos", lifespan=lifespan)


def the_session(request: Request) -> SeedanceSession:
    session: SeedanceSession = request.app.state.session
    return session


Session = Annotated[SeedanceSession, Depends(the_session)]


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
        job = await session.submit(GenerationRequest(**order.model_dump()))
    except InvalidRequestError as error:
        raise HTTPException(422, str(error)) from error
    except SubmitUncertainError as error:  # perhaps charged: do not ask the user to try again
        raise HTTPException(502, f"this may have been accepted: {error}") from error
    except APIError as error:
        raise HTTPException(502, error.message) from error
    return {"id": job.request_id, "state": job.state}


@app.get("/videos/{request_id}")
async def read(request_id: str, session: Session, wait: float = 0) -> dict[str, Any]:
    """The state of a job; waits up to `wait` seconds, at most 30, for it to end."""
    try:
        generation = await session.client.get(request_id)
        if not generation.status.is_terminal and wait > 0:
            job = await session.attach(request_id)
            generation = await job.wait(min(wait, 30.0))
    except JobTimeoutError:
        generation = await session.client.get(request_id)
    except (NotFoundError, ValueError) as error:
        raise HTTPException(404, "no such video") from error
    except SeedanceError as error:
        raise HTTPException(502, str(error)) from error
    return {"id": request_id, "state": generation.status, "url": generation.output_url}
