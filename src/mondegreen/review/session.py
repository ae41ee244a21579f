"""Coming in: the token of a server that others can reach, and the name of who reviews.

What the pages work with, and who sits before them.
"""

import contextlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from mondegreen.cases.spelling import labeller
from mondegreen.cases.store import DataManager
from mondegreen.config import Params
from mondegreen.db import reading
from mondegreen.errors import CaseError, MondegreenError
from mondegreen.review.figures import HEIGHT, WIDTH, draw, progress
from mondegreen.review.page import shown
from mondegreen.review.queue import Leases, Queue
from mondegreen.review.security import MAX_NAME, Access, Visitor, checked_name, name_cookie, token_cookie


@dataclass
class Desk:
    """A store with its queue and its rules.

    Args:
        manager: of the store.
        params: review, score.normalizer, model.base and seed are read.
        access: who may come in.
        reviewer: the name in a browser that gave none; "" asks for one.
        fixed: that name is everybody's.
    """

    manager: DataManager
    params: Params
    access: Access
    reviewer: str = ""
    fixed: bool = False
    queue: Queue = field(init=False)

    def __post_init__(self) -> None:
        lasting = timedelta(minutes=self.params.review.lease_minutes)
        self.queue = Queue(self.manager, Leases(self.manager.engine, lasting))
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


class Seat:
    """One browser at the desk."""

    def __init__(self, desk: Desk, visitor: Visitor) -> None:
        self.desk, self.holder = desk, visitor.holder
        self.name = desk.reviewer if desk.fixed else visitor.name or desk.reviewer

    def render(self, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        """A page with what every page has: who reviews, how far they are, the token of the forms."""
        with reading(self.desk.manager.engine) as session:
            standing = progress(session, self.name)
        text = self.desk.templates.get_template(template).render(
            progress=standing,
            reviewer=self.name,
            fixed=self.desk.fixed,
            csrf=self.desk.access.csrf(self.holder),
            params=self.desk.params.review,
            **context,
        )
        return HTMLResponse(text, status)


def seat(request: Request) -> Seat:
    """Whoever asks."""
    return Seat(request.app.state.desk, request.state.visitor)


def named(at: Annotated[Seat, Depends(seat)]) -> Seat:
    """Whoever said who they are; others are asked."""
    if not at.name:
        raise HTTPException(303, headers={"location": "/name"})
    return at


def ours(request: Request, at: Annotated[Seat, Depends(seat)], csrf: Annotated[str, Form()] = "") -> Seat:
    """Who sent a form, or a request of the script, that a page of this browser holds the token of."""
    if not at.desk.access.is_csrf(at.holder, csrf or request.headers.get("x-csrf", "")):
        raise HTTPException(403, "This page is older than the server, or of another browser. Load it again.")
    return at


def named_ours(at: Annotated[Seat, Depends(ours)]) -> Seat:
    """Both."""
    return named(at)


def known(case_id: Annotated[str, InPath(pattern="^[0-9a-f]{16}$")], at: Annotated[Seat, Depends(seat)]) -> str:
    """The id of a case that there is."""
    try:
        return at.desk.manager.get_case(case_id).id
    except CaseError as error:
        raise HTTPException(404, error.problem) from None


Anybody = Annotated[Seat, Depends(seat)]
Named = Annotated[Seat, Depends(named)]
Ours = Annotated[Seat, Depends(ours)]
NamedOurs = Annotated[Seat, Depends(named_ours)]
Known = Annotated[str, Depends(known)]


router = APIRouter()


@router.get("/enter")
def enter(at: Anybody, token: str = "") -> Response:
    """The address that was printed. Without its token it asks for it."""
    return _let_in(at, token) if token else _ask(at)


@router.post("/enter")
def enter_token(at: Ours, token: Annotated[str, Form(max_length=200)] = "") -> Response:
    """The same, typed."""
    return _let_in(at, token)


@router.get("/name")
def ask_name(at: Anybody) -> HTMLResponse:
    """Who reviews in this browser?"""
    return at.render("name.html.j2", longest=MAX_NAME, notice="")


@router.post("/name")
def set_name(at: Ours, name: Annotated[str, Form()] = "") -> Response:
    """Remembers it, and lets go what the former one had open."""
    if at.desk.fixed:
        raise HTTPException(403, f"This server was started for {at.name}.")
    if not (chosen := checked_name(name)):
        return at.render("name.html.j2", 422, longest=MAX_NAME, notice=f"A name has 1 to {MAX_NAME} characters.")
    at.desk.queue.leases.release(at.holder)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(**name_cookie(chosen))  # type: ignore[arg-type]
    return answer


def _let_in(at: Seat, token: str) -> Response:
    if not at.desk.access.token or not at.desk.access.is_token(token):
        return _ask(at, "That is not the token.")
    # Not a redirect: where a link from elsewhere led here, the browser would not send the new cookie along.
    page = at.desk.templates.get_template("enter.html.j2").render(inside=True, notice="", csrf="")
    answer = HTMLResponse(page)
    answer.set_cookie(**token_cookie(at.desk.access))  # type: ignore[arg-type]
    return answer


def _ask(at: Seat, notice: str = "") -> Response:
    template = at.desk.templates.get_template("enter.html.j2")
    page = template.render(inside=False, notice=notice, csrf=at.desk.access.csrf(at.holder))
    return HTMLResponse(page, 401 if notice else 200)
