"""FastAPI: one session for the whole application.

    uvicorn examples.web_app:app

A job is started in one request and read in another, even after a restart: all that is kept is the
server's request id. Leaving the lifespan by an error leaves the jobs running and logs their ids.
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
    """Submit a job; answers as soon as the API has accepted it."""
    try:
        job = await session.submit(GenerationRequest(**order.model_dump()))
    except InvalidRequestError as error:
        raise HTTPException(422, str(error)) from error
    except SubmitUncertainError as error:  # perhaps paid: do not invite the user to try again
        raise HTTPException(502, f"it is not known whether this was accepted: {error}") from error
    except APIError as error:
        raise HTTPException(502, error.message) from error
    return {"id": job.request_id, "state": job.state}


@app.get("/videos/{request_id}")
async def read(request_id: str, session: Session, wait: float = 0) -> dict[str, Any]:
    """A job's state; waits up to `wait` seconds, 30 at the most, for its end."""
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
