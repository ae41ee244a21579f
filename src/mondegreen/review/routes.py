"""One case after the other: look, decide, take back; and the pages about all of them."""

import unicodedata
from typing import Annotated

from fastapi import APIRouter, Form, Query
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.background import BackgroundTask

from mondegreen.cases.database import reading
from mondegreen.cases.snapshots.spelling import unwritable
from mondegreen.review import figures
from mondegreen.review.decisions import Chosen, NewDecision, ReviewConflict, decide, undo
from mondegreen.review.desk import Known, Named, NamedOurs, Seat
from mondegreen.review.page import Page, page_of
from mondegreen.review.security import checked_name
from mondegreen.review.standing import Action, Standing
from mondegreen.scoring.alignment import align_words
from mondegreen.scoring.normalizer import normalize

router = APIRouter()
_SOUND = {".wav": "audio/wav", ".flac": "audio/flac", ".mp3": "audio/mpeg", ".ogg": "audio/ogg", ".opus": "audio/ogg"}
_PAGE = 100  # entries of the history
Number = Annotated[int, Query(ge=0, lt=2**63)]
_DAY = 86_400  # seconds
_EMPTY = "The field is empty. If nothing was said, accept once more."
_MEANWHILE = (
    "Somebody has decided on this case meanwhile; nothing of yours was stored. If you accept now, yours counts."
)


@router.get("/")
def present(at: Named, said: Annotated[str, Query(max_length=20)] = "") -> Response:
    """The case on this browser's screen, else the next one."""
    case_id = at.desk.queue.current(at.holder, at.name)
    if case_id is not None:
        return _case(at, case_id, said=said)
    others = at.desk.queue.leases.taken(at.holder)
    return at.render("done.html.j2", said=said, others=others, skipped=at.desk.queue.skipped(at.name))


@router.get("/case/{case_id}")
def one_case(at: Named, case_id: Known, undone: Number = 0) -> Response:
    """A case by its id: out of the history, a dispute, or taken back just now."""
    at.desk.queue.open(case_id, at.holder, at.name)
    return _case(at, case_id, said="undone" if undone else "", text=_taken_back(at, case_id, undone))


@router.post("/case/{case_id}")
def decide_case(
    at: NamedOurs,
    case_id: Known,
    action: Annotated[Action, Form()],
    basis: Annotated[int, Form()],
    text: Annotated[str, Form()] = "",
    chosen: Annotated[Chosen, Form()] = "typed",
    empty: Annotated[bool, Form()] = False,
) -> Response:
    """Stores a decision and goes on to the next case."""
    written = _clean(text)
    if len(written) > at.desk.params.review.max_characters:
        notice = f"The text has {len(written)} characters; {at.desk.params.review.max_characters} are taken."
        return _case(at, case_id, 413, text=written, notice=notice)
    if action == "text" and not written and not empty:
        return _case(at, case_id, 422, text="", notice=_EMPTY, empty=True)
    is_text = action == "text"
    new = NewDecision(
        case_id=case_id,
        reviewer=at.name,
        action=action,
        transcript=written if is_text else None,
        chosen=chosen if is_text else "",
        basis=basis,
        holder=at.holder,
    )
    try:
        result = decide(at.desk.manager.engine, at.desk.params, new)
    except ReviewConflict:
        page = page_of(at.desk.manager, case_id, at.desk.params, at.name)
        if not _is_repeated(page, new):
            return _case(at, case_id, 409, text=written, notice=_MEANWHILE)
        result = page.standing
    at.desk.queue.decided(case_id)
    return RedirectResponse(f"/?said={_said(action, result, written, at)}", 303)


@router.post("/undo")
def undo_last(at: NamedOurs) -> Response:
    """Takes the newest decision back and shows its case again."""
    try:
        undone = undo(at.desk.manager.engine, at.desk.params, at.name)
    except ReviewConflict as error:
        return at.render("problem.html.j2", 409, problem=error.problem, next_step=error.next_step)
    return RedirectResponse(f"/case/{undone.case_id}?undone={undone.decision}", 303)


@router.post("/lease")
def renew(at: NamedOurs) -> Response:
    """Called by an open page: the case stays its reader's."""
    at.desk.queue.leases.renew(at.holder)
    return Response(status_code=204)


@router.post("/spelling")
def spelling(at: NamedOurs, text: Annotated[str, Form()] = "") -> JSONResponse:
    """The characters that the model cannot write, with their names."""
    found = unwritable(_clean(text)[: at.desk.params.review.max_characters], at.desk.labeller)
    return JSONResponse([{"character": item, "name": unicodedata.name(item, "unnamed").lower()} for item in found])


@router.get("/audio/{case_id}")
def audio(at: Named, case_id: Known) -> Response:
    """The recording of a case, in ranges when asked so. Raises CaseError when it is missing."""
    path = at.desk.manager.audio_path(case_id)
    kind = _SOUND.get(path.suffix, "application/octet-stream")
    return FileResponse(path, media_type=kind, headers={"cache-control": f"private, max-age={_DAY}"})


@router.get("/history")
def history(at: Named, reviewer: str = "", before: Number = 0) -> HTMLResponse:
    """Who decided what."""
    name = checked_name(reviewer) or None
    with reading(at.desk.manager.engine) as session:
        people = figures.reviewers(session)
        entries = figures.history(session, reviewer=name, before=before or None, limit=_PAGE)
        blind = figures.waiting_for_second(session)
    more = entries[-1].id if len(entries) == _PAGE else None
    return at.render("history.html.j2", people=people, entries=entries, wanted=name, more=more, blind=blind)


@router.get("/disagreements")
def disagreements(at: Named) -> HTMLResponse:
    """What two people heard differently, and how often they do."""
    normalizer = at.desk.params.score.normalizer
    with reading(at.desk.manager.engine) as session:
        agreement = figures.agreement(session, normalizer)
        disputes = figures.disputes(session)
    rows = [
        align_words(
            normalize(item.first.transcript or "", normalizer), normalize(item.second.transcript or "", normalizer)
        )
        for item in disputes
    ]
    return at.render("disagreements.html.j2", agreement=agreement, disputes=list(zip(disputes, rows, strict=True)))


def _case(
    at: Seat,
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
    page = page_of(at.desk.manager, case_id, at.desk.params, at.name)
    owner = at.desk.queue.leases.taken(at.holder).get(case_id, "")
    written = page.text if text is None else text
    following = at.desk.queue.ahead(at.holder, at.name, case_id)
    answer = at.render(
        "case.html.j2",
        status,
        page=page,
        text=written,
        odd=unwritable(written, at.desk.labeller),
        following=following,
        owner=owner,
        said=said,
        notice=notice,
        empty=empty,
    )
    answer.background = BackgroundTask(at.desk.draw_ahead, following) if following else None
    return answer


def _taken_back(at: Seat, case_id: str, decision: int) -> str | None:
    """The text of a decision that this reviewer took back just now."""
    with reading(at.desk.manager.engine) as session:
        found = figures.history(session, reviewer=at.name, case_id=case_id, limit=None) if decision else []
    return next((entry.transcript for entry in found if entry.id == decision and entry.undone), None)


def _is_repeated(page: Page, new: NewDecision) -> bool:
    """Whether the same was stored already: a form that was sent twice."""
    last = page.decided[-1] if page.decided else None
    wanted = (new.reviewer, new.action, new.transcript)
    return last is not None and (last.reviewer, last.action, last.transcript) == wanted


def _said(action: Action, result: Standing, written: str, at: Seat) -> str:
    """What the next page says of this decision; see base.html.j2."""
    if action == "skip":
        return "skip"
    if result.held in ("second", "disputed"):
        return result.held
    if action != "text":
        return action
    return "odd" if unwritable(written, at.desk.labeller) else "text"


def _clean(text: str) -> str:
    """Single spaces, and no control characters: nobody hears them, and PostgreSQL refuses one of them."""
    return " ".join("".join(item for item in text if item.isspace() or unicodedata.category(item) != "Cc").split())
