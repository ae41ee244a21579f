"""Coming in: the token of a server that others can reach, and the name of who reviews."""

from typing import Annotated

from fastapi import APIRouter, Form, HTTPException
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from mondegreen.review.desk import Anybody, Ours, Seat
from mondegreen.review.security import MAX_NAME, checked_name, name_cookie, token_cookie

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
