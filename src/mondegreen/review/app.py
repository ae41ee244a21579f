"""The review pages: rendered on the server, one case at a time; the script of theirs only saves keystrokes."""

from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from mondegreen.errors import MondegreenError, UsageError
from mondegreen.review import entrance, routes
from mondegreen.review.desk import Desk, seat
from mondegreen.review.security import Guard

_STATIC = Path(__file__).parent / "static"


def create_app(desk: Desk) -> FastAPI:
    """The pages over one store."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.desk = desk
    app.add_middleware(Guard, access=desk.access)
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    app.include_router(routes.router)
    app.include_router(entrance.router)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(MondegreenError, _failed)
    app.add_exception_handler(404, _refused)
    app.add_exception_handler(405, _refused)
    return app


def _refused(request: Request, error: Exception) -> Response:
    status, headers = getattr(error, "status_code", 500), getattr(error, "headers", None)
    if headers and "location" in headers:
        return RedirectResponse(headers["location"], status)
    return _say(request, status, str(getattr(error, "detail", "")), "")


def _not_understood(request: Request, error: Exception) -> Response:
    inside = isinstance(error, RequestValidationError) and any(item["loc"][:1] == ("path",) for item in error.errors())
    if inside:
        return _say(request, 404, "There is no case of that name.", "")
    return _say(request, 422, "A field of this form is missing or cannot be understood.", "Load the page again.")


def _failed(request: Request, error: Exception) -> Response:
    known = isinstance(error, MondegreenError)
    status = 422 if isinstance(error, UsageError) else 503
    return _say(request, status, error.problem if known else "", error.next_step if known else "")  # type: ignore[attr-defined]


def _say(request: Request, status: int, problem: str, next_step: str) -> Response:
    at = seat(request)
    text = at.desk.templates.get_template("problem.html.j2").render(problem=problem, next_step=next_step)
    return Response(text, status, media_type="text/html")
