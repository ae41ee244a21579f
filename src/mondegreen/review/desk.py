"""What the pages work with, and who sits before them."""

import contextlib
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, Form, HTTPException, Request
from fastapi import Path as InPath
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from mondegreen.cases.database import reading
from mondegreen.cases.manager import DataManager
from mondegreen.cases.snapshots.spelling import labeller
from mondegreen.config import Params
from mondegreen.errors import CaseError, MondegreenError
from mondegreen.review.figures import progress
from mondegreen.review.leases import Leases
from mondegreen.review.page import shown
from mondegreen.review.queue import Queue
from mondegreen.review.security import Access, Visitor
from mondegreen.review.waveform import HEIGHT, WIDTH, draw


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
