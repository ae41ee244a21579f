"""The review pages: look at a case, decide, take back, see what all decided; and the server of these pages.

They are rendered on the server, one case at a time; their script only saves keystrokes.
"""

import socket
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, FastAPI, Form, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.background import BackgroundTask

from mondegreen.db import reading
from mondegreen.errors import MondegreenError, UsageError
from mondegreen.listening import bound, run_app
from mondegreen.review import history as reviews
from mondegreen.review import session
from mondegreen.review.decisions import (
    Action,
    Adjudication,
    Chosen,
    NewDecision,
    ReviewConflict,
    record_decision,
    release,
    undo,
)
from mondegreen.review.page import Page, page_of, unheard
from mondegreen.review.security import AccessMiddleware, checked_name
from mondegreen.review.session import (
    BrowserSession,
    Known,
    NamedFormSession,
    NamedSession,
    ReviewState,
    browser_session,
)
from mondegreen.scoring.normalizer import normalize
from mondegreen.scoring.wer import align_words
from mondegreen.speech.spelling import unwritable
from mondegreen.speech.text import name_of

router = APIRouter()
_STATIC = Path(__file__).parent / "static"
_SOUND = {".wav": "audio/wav", ".flac": "audio/flac", ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".opus": "audio/ogg"}
_PAGE = 100  # entries of the history
Number = Annotated[int, Query(ge=0, lt=2**63)]
_DAY = 86_400  # seconds
_EMPTY = "The field is empty. If nothing was said, accept once more."
_MEANWHILE = (
    "Somebody has decided on this case meanwhile; nothing of yours was stored. If you accept now, yours counts."
)


def serve(state: ReviewState, port: int, on_ready: Callable[[str], None]) -> None:
    """Serves until SIGINT or SIGTERM.

    Args:
        port: 0 takes any that is free.
        on_ready: told the address as soon as requests are taken; it holds the token, where one is needed.

    Raises:
        UsageError: the address cannot be bound.
    """
    release(state.manager.engine, state.params)
    with bound(state.access.host, port) as listening:
        listening.listen(128)
        on_ready(address(state, listening.getsockname()[1]))
        run_app(create_app(state), listening, grace_seconds=2)  # a browser may hold a connection open


def address(state: ReviewState, port: int) -> str:
    """What a person opens."""
    host = state.access.host
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    shown = f"[{host}]" if ":" in host else host
    token = f"enter?token={quote(state.access.token)}" if state.access.token else ""
    return f"http://{shown}:{port}/{token}"


def create_app(state: ReviewState) -> FastAPI:
    """The pages over one store."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.review = state
    app.add_middleware(AccessMiddleware, access=state.access)
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    app.include_router(router)
    app.include_router(session.router)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(MondegreenError, _failed)
    app.add_exception_handler(404, _refused)
    app.add_exception_handler(405, _refused)
    return app


@router.get("/")
def present(browser: NamedSession, said: Annotated[str, Query(max_length=20)] = "") -> Response:
    """The case on this browser's screen, else the next one."""
    case_id = browser.state.queue.current(browser.holder, browser.name)
    if case_id is not None:
        return _case(browser, case_id, said=said)
    others = browser.state.queue.leases.taken(browser.holder)
    return browser.render("done.html.j2", said=said, others=others, skipped=browser.state.queue.skipped(browser.name))


@router.get("/case/{case_id}")
def one_case(browser: NamedSession, case_id: Known, undone: Number = 0) -> Response:
    """A case by its id: out of the history, a dispute, or taken back just now."""
    browser.state.queue.open(case_id, browser.holder, browser.name)
    return _case(browser, case_id, said="undone" if undone else "", text=_taken_back(browser, case_id, undone))


@router.post("/case/{case_id}")
def decide_case(
    browser: NamedFormSession,
    case_id: Known,
    action: Annotated[Action | Literal["rightly"], Form()],
    basis: Annotated[int, Form()],
    text: Annotated[str, Form()] = "",
    chosen: Annotated[Chosen, Form()] = "typed",
    empty: Annotated[bool, Form()] = False,
    heard: Annotated[bool, Form()] = False,
) -> Response:
    """Stores a decision and goes on to the next case.

    "rightly" is a text of which the person says that it is what was said, as it stands; see `unheard`.
    """
    rightly, action = action == "rightly", "text" if action == "rightly" else action
    written = _clean(text)
    if len(written) > browser.state.params.review.max_characters:
        notice = f"The text has {len(written)} characters; {browser.state.params.review.max_characters} are taken."
        return _case(browser, case_id, 413, text=written, notice=notice)
    if action == "text" and not written and not empty:
        return _case(browser, case_id, 422, text="", notice=_EMPTY, empty=True)
    is_text = action == "text"
    if is_text:
        page = page_of(browser.state.manager, case_id, browser.state.params, browser.name)
        normalizer = browser.state.params.score.normalizer
        notice = unheard(page, written, normalizer, heard=heard, rightly=rightly)
        if notice and page.basis == basis:  # else somebody decided meanwhile, which is said below
            return _case(browser, case_id, 422, text=written, notice=notice, empty=empty)
    new = NewDecision(
        case_id=case_id,
        reviewer=browser.name,
        action=action,
        transcript=written if is_text else None,
        chosen=chosen if is_text else "",
        basis=basis,
        holder=browser.holder,
        heard=heard if is_text else None,
    )
    try:
        result = record_decision(browser.state.manager.engine, browser.state.params, new)
    except ReviewConflict:
        page = page_of(browser.state.manager, case_id, browser.state.params, browser.name)
        if not _is_repeated(page, new):
            return _case(browser, case_id, 409, text=written, notice=_MEANWHILE)
        result = page.adjudication
    browser.state.queue.decided(case_id)
    return RedirectResponse(f"/?said={_said(action, result, written, browser)}", 303)


@router.post("/undo")
def undo_last(browser: NamedFormSession) -> Response:
    """Takes the newest decision back and shows its case again."""
    try:
        undone = undo(browser.state.manager.engine, browser.state.params, browser.name)
    except ReviewConflict as error:
        return browser.render("problem.html.j2", 409, problem=error.problem, next_step=error.next_step)
    return RedirectResponse(f"/case/{undone.case_id}?undone={undone.decision}", 303)


@router.post("/lease")
def renew(browser: NamedFormSession) -> Response:
    """Called by an open page: the case stays its reader's."""
    browser.state.queue.leases.renew(browser.holder)
    return Response(status_code=204)


@router.post("/spelling")
def spelling(browser: NamedFormSession, text: Annotated[str, Form()] = "") -> JSONResponse:
    """The characters that the model cannot write, with their names."""
    found = unwritable(_clean(text)[: browser.state.params.review.max_characters], browser.state.labeller)
    return JSONResponse([{"character": item, "name": name_of(item).lower()} for item in found])


@router.get("/audio/{case_id}")
def audio(browser: NamedSession, case_id: Known) -> Response:
    """The recording of a case, in ranges when asked so. Raises CaseError when it is missing."""
    path = browser.state.manager.audio_path(case_id)
    kind = _SOUND.get(path.suffix, "application/octet-stream")
    return FileResponse(path, media_type=kind, headers={"cache-control": f"private, max-age={_DAY}"})


@router.get("/history")
def history(browser: NamedSession, reviewer: str = "", before: Number = 0) -> HTMLResponse:
    """Who decided what."""
    name = checked_name(reviewer) or None
    with reading(browser.state.manager.engine) as session:
        people = reviews.reviewers(session)
        entries = reviews.history(session, reviewer=name, before=before or None, limit=_PAGE)
        blind = reviews.waiting_for_second(session)
    more = entries[-1].id if len(entries) == _PAGE else None
    return browser.render("history.html.j2", people=people, entries=entries, wanted=name, more=more, blind=blind)


@router.get("/disagreements")
def disagreements(browser: NamedSession) -> HTMLResponse:
    """What two people heard differently, and how often they do."""
    normalizer = browser.state.params.score.normalizer
    with reading(browser.state.manager.engine) as session:
        agreement = reviews.agreement(session, normalizer)
        disputes = reviews.disputes(session)
    rows = [
        align_words(
            normalize(item.first.transcript or "", normalizer), normalize(item.second.transcript or "", normalizer)
        )
        for item in disputes
    ]
    return browser.render("disagreements.html.j2", agreement=agreement, disputes=list(zip(disputes, rows, strict=True)))


def _case(
    browser: BrowserSession,
    case_id: str,
    status: int = 200,
    *,
    said: str = "",
    text: str | None = None,
    notice: str = "",
    empty: bool = False,
) -> HTMLResponse:
    """The page of a case; the one after it is made ready meanwhile.

    Args:
        text: what the field holds, None for what the case starts with.
        empty: the person was asked whether nothing was said.
    """
    page = page_of(browser.state.manager, case_id, browser.state.params, browser.name)
    owner = browser.state.queue.leases.taken(browser.holder).get(case_id, "")
    written = page.text if text is None else text
    following = browser.state.queue.ahead(browser.holder, browser.name, case_id)
    answer = browser.render(
        "case.html.j2",
        status,
        page=page,
        text=written,
        odd=unwritable(written, browser.state.labeller),
        following=following,
        owner=owner,
        said=said,
        notice=notice,
        empty=empty,
    )
    answer.background = BackgroundTask(browser.state.draw_ahead, following) if following else None
    return answer


def _taken_back(browser: BrowserSession, case_id: str, decision: int) -> str | None:
    """The text of a decision that this reviewer took back just now."""
    with reading(browser.state.manager.engine) as session:
        found = reviews.history(session, reviewer=browser.name, case_id=case_id, limit=None) if decision else []
    return next((entry.transcript for entry in found if entry.id == decision and entry.undone), None)


def _is_repeated(page: Page, new: NewDecision) -> bool:
    """Whether the same was stored already: a form that was sent twice."""
    last = page.decided[-1] if page.decided else None
    wanted = (new.reviewer, new.action, new.transcript)
    return last is not None and (last.reviewer, last.action, last.transcript) == wanted


def _said(action: Action, result: Adjudication, written: str, browser: BrowserSession) -> str:
    """What the next page says of this decision; see base.html.j2."""
    if action == "skip":
        return "skip"
    if result.held in ("second", "disputed"):
        return result.held
    if action != "text":
        return action
    return "odd" if unwritable(written, browser.state.labeller) else "text"


def _clean(text: str) -> str:
    """Single spaces, and no control characters: nobody hears them, and PostgreSQL refuses one of them."""
    return " ".join("".join(item for item in text if item.isspace() or unicodedata.category(item) != "Cc").split())


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
    browser = browser_session(request)
    text = browser.state.templates.get_template("problem.html.j2").render(problem=problem, next_step=next_step)
    return Response(text, status, media_type="text/html")
