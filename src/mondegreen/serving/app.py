"""The HTTP side: OpenAI's audio API, health, metrics; each answer is on its way into the store before it is sent.

Whatever is refused is refused as OpenAI's API does it, with a JSON object `error` whose message says what to do. A
field that would change nothing is refused by its name rather than ignored.
"""

import hashlib
import hmac
import logging
import os
import shutil
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from mondegreen.config import AudioParams, ServeParams
from mondegreen.errors import MondegreenError, VocabularyError, is_full
from mondegreen.files import printable
from mondegreen.serving.batcher import Batcher, Heard
from mondegreen.serving.challenger import Asker, Challenger, Shadow
from mondegreen.serving.champion import Champion
from mondegreen.serving.forms import UploadedForm
from mondegreen.serving.hearing import answers_of, await_heard, check_expected, parts_of, seconds_of
from mondegreen.serving.metrics import ServiceMetrics
from mondegreen.serving.openai_api import Asked, RefusedError, read_fields, render, served_names
from mondegreen.serving.spool import Answer, Spool

router = APIRouter()
_BUSY = 1  # seconds after which a refused client may ask again
_AS_IT_IS = "".join(chr(code) for code in range(ord(" "), 127) if chr(code) != "%")  # in a header's value
_log = logging.getLogger(__name__)


@dataclass
class Server:
    """What the routes work with. `inside`: requests that were let in and are not answered."""

    champion: Champion
    challenger: Challenger
    batcher: Batcher
    shadow: Shadow
    spool: Spool
    metrics: ServiceMetrics
    params: ServeParams
    token: str = ""
    audio: AudioParams = field(default_factory=AudioParams)
    inside: int = 0
    stopping: bool = False

    def show(self) -> None:
        """What the gauges of /metrics say of the state that this process is in."""
        self.metrics.show(self.spool.state, bool(self.champion.problem), bool(self.challenger.problem))


def create_app(server: Server) -> FastAPI:
    """The service over one model."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.server = server
    app.include_router(router)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    app.middleware("http")(_guarded)
    return app


@router.post("/v1/audio/transcriptions")
async def transcriptions(request: Request) -> Response:
    """One recording to its text."""
    server = _server(request)
    if server.stopping:
        raise RefusedError(503, "The server is stopping. Ask another one, or this one in a while.")
    if server.inside >= server.params.max_waiting:
        raise RefusedError(
            429, f"{server.inside} requests are being answered already.", headers={"retry-after": str(_BUSY)}
        )
    server.inside += 1
    server.metrics.inside.set(server.inside)
    try:
        return await _answer(request, server)
    finally:
        server.inside -= 1
        server.metrics.inside.set(server.inside)


@router.get("/v1/models")
def models(request: Request) -> Response:
    """The names that `model` may have."""
    server = _server(request)
    known = [
        {"id": name, "object": "model", "created": 0, "owned_by": "mondegreen"}
        for name in served_names(server.champion.model, server.champion.current.name)
    ]
    return JSONResponse({"object": "list", "data": known})


@router.get("/healthz")
def alive() -> Response:
    """Whether the process answers."""
    return JSONResponse({"status": "ok"})


@router.get("/readyz")
def ready(request: Request) -> Response:
    """Whether requests are taken, by which model, and what is wrong although they are."""
    server = _server(request)
    current, spool = server.champion.current, server.spool.state
    facts = {
        "ready": not server.stopping,
        "model": current.name,
        "digest": current.digest,
        "runtime": current.stt.model.runtime,
        "follows": server.champion.model,
        "loading": _loading(server.champion),
        "problem": server.champion.problem or None,
        "failed": server.champion.attempts.failed or None,
        "next_try": _moment(server.champion.attempts.next_try),
        "store": spool.problem or None,
        "answers_waiting": spool.waiting,
        "answers_dropped": spool.dropped,
        "answers_refused": spool.refused,
        "canary": _canary(server),
    }
    return JSONResponse(facts, 503 if server.stopping else 200)


@router.get("/metrics")
def metrics(request: Request) -> Response:
    """In Prometheus' text format."""
    server = _server(request)
    server.show()
    text, kind = server.metrics.text()
    return Response(text, media_type=kind)


def _loading(champion: Champion) -> dict[str, Any] | None:
    loading = champion.loading
    return {"model": loading.name, "since": _moment(loading.since)} if loading else None


def _moment(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at else None


def _canary(server: Server) -> dict[str, Any] | None:
    canary, problem = server.challenger.canary, server.challenger.problem
    if canary is None:
        return {"problem": problem} if problem else None
    facts = {"problem": problem or None, "next_try": _moment(server.challenger.attempts.next_try)}
    return canary.model_dump(include={"version", "share", "shadow"}) | facts


async def _answer(request: Request, server: Server) -> Response:
    request_id = request.state.request_id
    held: list[Path] = []  # what is heard, until it is the spool's
    try:
        async with UploadedForm(request, server.params) as form:
            names = served_names(server.champion.model, server.champion.current.name)
            asked = read_fields(
                form,
                server.params.language,
                names,
                request.headers,
                server.params.max_phrases,
            )
            await run_in_threadpool(_check_phrases, server, asked)
            upload = cast(UploadFile, form["file"])
            recording = server.spool.place(request_id, upload.filename or "")
            held = [recording]
            digest = await run_in_threadpool(_save, upload, recording)
        seconds = await run_in_threadpool(seconds_of, recording, server.params, server.audio.max_missing_share)
        held = await run_in_threadpool(parts_of, recording, server.audio.channel, server.spool, request_id, asked)
        check_expected(seconds, server.batcher.expected(seconds * len(held)), server.params.timeout)
        # Who names @champion or a version gets that one; who names the model takes part in a canary.
        # Phrases of a request's own would be heard by one of the two alone.
        asker = Asker(asked.caller, digest) if asked.model == names[0] and not asked.phrases else None
        futures = [server.batcher.submit(part, seconds, asker, asked.phrases) for part in held]
        heard = await await_heard(request, futures, server.params.timeout)
        response = _response(asked, heard)  # before it is written down: what cannot be sent is no answer
        await run_in_threadpool(_keep, server, answers_of(request_id, asked, heard, digest), heard)
        held = []
    finally:
        for part in held:
            server.spool.forget(part)
    return response


def _response(asked: Asked, heard: Sequence[Heard]) -> Response:
    results = [one.transcription for one in heard]
    body, kind = render(results, asked.response_format, asked.language, asked.granularities)
    names = dict.fromkeys(one.served.name for one in heard)
    headers = {
        "x-mondegreen-model": ", ".join(quote(name, _AS_IT_IS, errors="surrogateescape") for name in names),
        "x-mondegreen-digest": ", ".join(dict.fromkeys(result.model for result in results)),
    }
    if isinstance(body, str):
        return PlainTextResponse(body, headers=headers, media_type=kind)
    return JSONResponse(body, headers=headers)


def _keep(server: Server, answers: Sequence[Answer], heard: Sequence[Heard]) -> None:
    for answer, one in zip(answers, heard, strict=True):
        server.shadow.take(answer, one.choice)
        server.spool.add(answer)
        server.metrics.heard(one)


def _check_phrases(server: Server, asked: Asked) -> None:
    try:
        boost = server.champion.current.stt.boost_of(asked.phrases)
    except VocabularyError as error:
        raise RefusedError(400, f"phrases: {error.problem} Leave them out.", "phrases") from None
    if boost and boost.left_out:
        raise RefusedError(400, f"phrases: {boost.left_out[0]}. Leave it out, or say what it sounds_like.", "phrases")


def _save(upload: UploadFile, target: Path) -> str:
    """Writes the recording down; its sha256."""
    with target.open("wb") as file:
        shutil.copyfileobj(upload.file, file)
        file.flush()
        os.fdatasync(file.fileno())  # it is there when its answer is
    with target.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _guarded(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """A request's id, who may ask, how long it took; of every request, whatever breaks while it is answered."""
    server, started = _server(request), time.perf_counter()
    request.state.request_id = str(uuid.uuid4())
    try:
        refusal = _refusal(request, server)
        response = _problem(refusal) if refusal else await call_next(request)
    except Exception as error:
        response = _broken(request, error)
    response.headers["x-request-id"] = request.state.request_id
    if request.url.path.startswith("/v1/"):
        server.metrics.asked(response.status_code, time.perf_counter() - started)
    return response


def _refusal(request: Request, server: Server) -> RefusedError | None:
    if not request.url.path.startswith("/v1/"):
        return None
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if server.token:
        if scheme.lower() != "bearer" or not hmac.compare_digest(
            given.strip().encode("latin-1"), server.token.encode("utf-8", "surrogateescape")
        ):
            return RefusedError(401, "The token is missing or wrong: send Authorization: Bearer TOKEN.")
    elif request.headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        return RefusedError(403, "Another site's page asked for this.")
    return None


def _server(request: Request) -> Server:
    return cast(Server, request.app.state.server)


def _problem(error: RefusedError) -> Response:
    kind = (
        "server_error"
        if error.status >= 500
        else "rate_limit_error"
        if error.status == 429
        else "invalid_request_error"
    )
    body = {"error": {"message": printable(error.message), "type": kind, "param": error.param, "code": None}}
    return JSONResponse(body, error.status, headers=error.headers)


async def _refused(request: Request, error: Exception) -> Response:
    return _problem(cast(RefusedError, error))


async def _not_found(request: Request, error: Exception) -> Response:
    found = cast(HTTPException, error)
    return _problem(RefusedError(found.status_code, f"{request.method} {request.url.path}: {found.detail}."))


def _broken(request: Request, error: Exception) -> Response:
    if isinstance(error, OSError) and is_full(error):
        _log.error("Request %s is refused: %s", request.state.request_id, error)
        return _problem(
            RefusedError(503, "There is no room for a recording on the server's disk. Ask again in a while.")
        )
    message = error.problem if isinstance(error, MondegreenError) else "Something broke; the server's log says what."
    _log.error("Request %s failed.", request.state.request_id, exc_info=error)
    return _problem(RefusedError(500, message))
