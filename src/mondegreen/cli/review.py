"""`mondegreen review`: a local web page on which people correct what was misheard."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mondegreen.cli.cases import open_store
from mondegreen.cli.common import STORE, JsonOption, StoreOption, answer
from mondegreen.errors import UsageError
from mondegreen.progress import until_stopped
from mondegreen.scoring.wording import many, percent

if TYPE_CHECKING:
    from mondegreen.cases.store import DataManager
    from mondegreen.config import Params
    from mondegreen.review.session import ReviewState

PORT = 8377


def review(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = PORT,
    host: Annotated[
        str, typer.Option(help="Address to serve on. Elsewhere than on this machine's own a token is asked for.")
    ] = "127.0.0.1",
    reviewer: Annotated[str | None, typer.Option(metavar="NAME", help="Everybody who comes is this person.")] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another name of this server; may be given again.")
    ] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="Hear what was drawn at random to measure the WER in production.")
    ] = False,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
    summary: Annotated[bool, typer.Option("--summary", help="Print how far the reviews are, and stop.")] = False,
    store: StoreOption = STORE,
    as_json: JsonOption = False,
) -> None:
    """Correct cases in the browser: hear them, choose or write what was said, go on to the next.

    Several people may review at once; no case is given to two of them unless it is to be (review.double_fraction).
    ctrl-C stops the server, and loses nothing.
    """
    from mondegreen.config import params_of
    from mondegreen.listening import is_loopback
    from mondegreen.review.app import serve

    params = params_of()
    manager = open_store(store)
    if summary:
        _summary(manager, params, as_json, audit=audit)
        return
    state = _state(manager, params, host, allow_host or (), reviewer, audit=audit)
    with until_stopped():
        serve(state, port, lambda url: _ready(url, browser and is_loopback(host), as_json))


def _state(
    manager: "DataManager", params: "Params", host: str, names: Sequence[str], reviewer: str | None, *, audit: bool
) -> "ReviewState":
    from mondegreen.git import login
    from mondegreen.listening import is_loopback
    from mondegreen.review.security import Access, checked_name
    from mondegreen.review.session import ReviewState

    if reviewer is not None and not checked_name(reviewer):
        raise UsageError("--reviewer: not a name.", "Give 1 to 60 printable characters.")
    # Who has an account here is known; of others on the network nothing is.
    name = checked_name(reviewer or (login() if is_loopback(host) else ""))
    return ReviewState(manager, params, Access.for_host(host, names), name, fixed=reviewer is not None, audit=audit)


def _ready(url: str, browser: bool, as_json: bool) -> None:
    import webbrowser

    answer({"url": url}, f"{url}\nctrl-C stops it.", as_json)
    if browser:
        webbrowser.open(url)


def _summary(manager: "DataManager", params: "Params", as_json: bool, *, audit: bool) -> None:
    from mondegreen.db import reading
    from mondegreen.review import history

    with reading(manager.engine) as session:
        progress = history.progress(session, "", audit=audit)
        people = history.reviewers(session)
        agreement = history.agreement(session, params.score.normalizer)
    tree = {
        **progress.model_dump(include={"left", "second", "disputed"}),
        "reviewers": [person.model_dump() for person in people],
        "agreement": agreement.model_dump(),
    }

    def lines() -> Iterator[str]:
        yield f"Waiting: {many(progress.left, 'case')}, {progress.second} of them for a second person"
        for person in people:
            pace = "" if person.pace is None else f", {person.pace:.0f} s each"
            kinds = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in person.actions.items())
            yield f"{person.name}: {person.decisions} decided{pace} ({kinds or 'nothing stands'})"
        if agreement.pairs:
            rate = "no words" if agreement.wer is None else f"inter-annotator WER {percent(agreement.wer)}"
            yield f"{agreement.agreeing} of {agreement.pairs} doubly reviewed cases agree, {rate}"
        if progress.disputed:
            yield f"{progress.disputed} disagreements wait for a decision: `mondegreen review`, Disagreements"

    answer(json.dumps(tree, ensure_ascii=False), lines(), as_json)
