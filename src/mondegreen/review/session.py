"""The state of the review app, and whose browser a request comes from: login by token, and the reviewer's name."""

import contextlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from mondegreen.cases.store import DataManager
from mondegreen.config import Params
from mondegreen.db import reading
from mondegreen.errors import CaseError, MondegreenError
from mondegreen.review.history import progress
from mondegreen.review.page import HEIGHT, WIDTH, draw, shown
from mondegreen.review.queue import Leases, Queue
from mondegreen.review.security import MAX_NAME, Access, Visitor, checked_name, name_cookie, token_cookie
from mondegreen.speech.spelling import labeller


@dataclass
class ReviewState:
    """A store with its queue and its rules.

    Args:
        manager: of the store.
        params: review, score.normalizer, model.base and seed are read.
        access: who may come in.
        reviewer: the name in a browser that gave none; "" asks for one.
        fixed: that name is everybody's.
        audit: what the audit drew is heard, instead of the failed cases.
    """

    manager: DataManager
    params: Params
    access: Access
    reviewer: str = ""
    fixed: bool = False
    audit: bool = False
    queue: Queue = field(init=False)

    def __post_init__(self) -> None:
        lasting = timedelta(minutes=self.params.review.lease_minutes)
        leases = Leases(self.manager.engine, lasting)
        self.queue = Queue(self.manager, leases, self.params.seed, audit=self.audit)
        self.labeller = labeller(self.params.model.base)
        self.templates = Environment(
            loader=PackageLoader("mondegreen.review"),
            autoescape=True,  # transcripts, names and file names are other people's text
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        self.templates.filters["shown"] = shown
        self.templates.globals.update(width=WIDTH, height=HEIGHT)

    def draw_ahead(self, case_id: str) -> None:
        """Draws the waveform of a case that will be asked for soon; what cannot be drawn is said then."""
        with contextlib.suppress(MondegreenError):
            draw(self.manager.audio_path(case_id))


class BrowserSession:
    """One browser, and who reviews in it."""

    def __init__(self, state: ReviewState, visitor: Visitor) -> None:
        self.state, self.holder = state, visitor.holder
        self.name = state.reviewer if state.fixed else visitor.name or state.reviewer

    def render(self, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        """A page with what every page has: who reviews, how far they are, the token of the forms."""
        with reading(self.state.manager.engine) as session:
            done = progress(session, self.name, audit=self.state.audit)
        text = self.state.templates.get_template(template).render(
            progress=done,
            reviewer=self.name,
            fixed=self.state.fixed,
            csrf=self.state.access.csrf(self.holder),
            params=self.state.params.review,
            **context,
        )
        return HTMLResponse(text, status)


def browser_session(request: Request) -> BrowserSession:
    """The browser that asks."""
    return BrowserSession(request.app.state.review, request.state.visitor)


def with_name(browser: Annotated[BrowserSession, Depends(browser_session)]) -> BrowserSession:
    """The browser of somebody who gave a name; others are sent to where it is asked for."""
    if not browser.name:
        raise HTTPException(303, headers={"location": "/name"})
    return browser


def with_csrf(
    request: Request, browser: Annotated[BrowserSession, Depends(browser_session)], csrf: Annotated[str, Form()] = ""
) -> BrowserSession:
    """Who sent a form, or a request of the script, that a page of this browser holds the token of."""
    if not browser.state.access.is_csrf(browser.holder, csrf or request.headers.get("x-csrf", "")):
        raise HTTPException(403, "This page is older than the server, or of another browser. Load it again.")
    return browser


def with_name_and_csrf(browser: Annotated[BrowserSession, Depends(with_csrf)]) -> BrowserSession:
    """A form of this browser's, by somebody with a name."""
    return with_name(browser)


def known(
    case_id: Annotated[str, InPath(pattern="^[0-9a-f]{16}$")],
    browser: Annotated[BrowserSession, Depends(browser_session)],
) -> str:
    """The id of a case that there is."""
    try:
        return browser.state.manager.get_case(case_id).id
    except CaseError as error:
        raise HTTPException(404, error.problem) from None


AnySession = Annotated[BrowserSession, Depends(browser_session)]
NamedSession = Annotated[BrowserSession, Depends(with_name)]
FormSession = Annotated[BrowserSession, Depends(with_csrf)]
NamedFormSession = Annotated[BrowserSession, Depends(with_name_and_csrf)]
Known = Annotated[str, Depends(known)]


router = APIRouter()


@router.get("/enter")
def enter(browser: AnySession, token: str = "") -> Response:
    """The address that was printed. Without its token it asks for it."""
    return _log_in(browser, token) if token else _ask_token(browser)


@router.post("/enter")
def enter_token(browser: FormSession, token: Annotated[str, Form(max_length=200)] = "") -> Response:
    """The token, typed into the form."""
    return _log_in(browser, token)


@router.get("/name")
def ask_name(browser: AnySession) -> HTMLResponse:
    """The form that asks who reviews in this browser."""
    return browser.render("name.html.j2", longest=MAX_NAME, notice="")


@router.post("/name")
def set_name(browser: FormSession, name: Annotated[str, Form()] = "") -> Response:
    """Remembers it, and lets go what the former one had open."""
    if browser.state.fixed:
        raise HTTPException(403, f"This server was started for {browser.name}.")
    if not (chosen := checked_name(name)):
        return browser.render("name.html.j2", 422, longest=MAX_NAME, notice=f"A name has 1 to {MAX_NAME} characters.")
    browser.state.queue.leases.release(browser.holder)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(**name_cookie(chosen))  # type: ignore[arg-type]
    return answer


def _log_in(browser: BrowserSession, token: str) -> Response:
    if not browser.state.access.token or not browser.state.access.is_token(token):
        return _ask_token(browser, "That is not the token.")
    # Not a redirect: where a link from elsewhere led here, the browser would not send the new cookie along.
    page = browser.state.templates.get_template("enter.html.j2").render(inside=True, notice="", csrf="")
    answer = HTMLResponse(page)
    answer.set_cookie(**token_cookie(browser.state.access))  # type: ignore[arg-type]
    return answer


def _ask_token(browser: BrowserSession, notice: str = "") -> Response:
    template = browser.state.templates.get_template("enter.html.j2")
    page = template.render(inside=False, notice=notice, csrf=browser.state.access.csrf(browser.holder))
    return HTMLResponse(page, 401 if notice else 200)
