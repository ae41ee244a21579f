"""What the review pages refuse: other names, other sites, strangers, and too much."""

from collections.abc import Callable

import pytest

from mondegreen.cases.store import DataManager
from mondegreen.review.app import address
from mondegreen.review.security import MAX_BODY, Access, checked_name, is_loopback
from mondegreen.review.session import ReviewState
from tests.review.conftest import add, counts
from tests.review.visitor import ADDRESS, Visitor

MakeState = Callable[..., ReviewState]


@pytest.fixture
def visitor(store: DataManager, make_state: MakeState) -> Visitor:
    """A browser that looks at the one case."""
    add(store, 0)
    found = Visitor(make_state())
    found.look()
    return found


def test_a_server_of_this_machine_answers_to_its_own_names_only(visitor: Visitor) -> None:
    welcome = ("127.0.0.1:8377", "localhost:8377", "[::1]:8377", "LOCALHOST")
    refused = (
        "evil.example:8377",  # a name that was made to point here
        "192.168.0.7:8377",
        "127.0.0.1.evil.example",
        "evil.example@127.0.0.1",
        "",
    )
    for host in welcome + refused:
        assert visitor.get("/", headers={"host": host}).status_code == (200 if host in welcome else 421), host


def test_a_server_for_others_answers_to_addresses_and_to_the_names_it_was_given(make_state: MakeState) -> None:
    access = Access.for_host("0.0.0.0", ["Review.example"])
    assert all(access.knows_host(host) for host in ("10.1.2.3:8377", "[fe80::1]:1", "review.example", "localhost"))
    assert not access.knows_host("evil.example")
    state = make_state(access=access)
    printed = address(state, 8377)
    assert printed.startswith("http://") and printed.endswith(f"/enter?token={access.token}")
    assert Visitor(state, printed.rsplit("/", 1)[0]).get(printed).status_code == 200
    assert access.token and Access.for_host("0.0.0.0").token != access.token
    assert not Access.for_host("127.0.0.1").token and not Access.for_host("::1").token
    assert is_loopback("127.8.8.8") and is_loopback("localhost") and not is_loopback("localhost.evil.example")


def test_other_sites_change_nothing(visitor: Visitor, store: DataManager) -> None:
    key, token = visitor.case, visitor.value(r'data-csrf="(\w+)"')
    form = {"csrf": token, "action": "text", "basis": "0", "text": "stolen"}
    for origin in ("http://evil.example", "null", "http://127.0.0.1:9999", "", f"{ADDRESS}.evil.example"):
        for path in (f"/case/{key}", "/undo"):
            assert visitor.post(path, data=form, headers={"origin": origin}).status_code == 403
    assert counts(store, key) == (None, None)


def test_a_page_of_another_site_fetches_nothing_but_a_link_may_lead_here(visitor: Visitor) -> None:
    fetched = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"}
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    frame = link | {"sec-fetch-dest": "iframe"}
    neighbour = fetched | {"sec-fetch-site": "same-site"}  # another port of this machine
    assert [visitor.get("/", headers=one).status_code for one in (fetched, link, frame, neighbour)] == [
        403,
        200,
        403,
        403,
    ]


def test_a_form_needs_the_token_of_its_own_browser(visitor: Visitor, store: DataManager, make_state: MakeState) -> None:
    key = visitor.case
    other = Visitor(make_state(access=visitor.app.state.review.access))  # type: ignore[attr-defined]
    other.look("/history")
    form = {"action": "text", "basis": "0", "text": "stolen"}
    for token in ("", "0" * 64, "ä", other.value(r'data-csrf="(\w+)"')):
        for path in (f"/case/{key}", "/undo", "/name", "/lease", "/spelling"):
            assert visitor.post(path, data=form | {"csrf": token}).status_code == 403
    assert counts(store, key) == (None, None)
    assert visitor.decide(text="mine").status_code == 200 and counts(store, key) == ("mine", "manual")


def test_too_much_is_not_read(visitor: Visitor, store: DataManager) -> None:
    key = visitor.case
    assert visitor.decide(text="x" * MAX_BODY).status_code == 413
    endless = visitor.post(f"/case/{key}", content=iter([b"x" * 100] * 10))
    assert endless.status_code == 411
    longer = visitor.decide(text="long " * 500)
    assert longer.status_code == 413 and "2499 characters; 2000 are taken" in longer.text
    assert longer.text.count("long long") and counts(store, key) == (None, None)  # what was written is not lost
    assert visitor.decide(text="ä" * 2_000).status_code == 200


def test_only_recordings_of_known_cases_are_given_out(visitor: Visitor) -> None:
    for path in (
        "/audio/0000000000000000",
        "/audio/..%2f..%2fmondegreen.db",
        "/audio/%2e%2e%2f%2e%2e",
        "/audio/" + "0" * 64,
        f"/audio/{visitor.case.upper()}x",
        "/case/' OR 1=1",
        "/static/..%2fapp.py",
        "/static/../app.py",
        "/static/%2e%2e/%2e%2e/config.py",
        "/openapi.json",
        "/docs",
    ):
        answer = visitor.get(path)
        assert answer.status_code == 404 and b"SQLite" not in answer.content and "import " not in answer.text, path


def test_every_answer_carries_the_policy(visitor: Visitor) -> None:
    for path in ("/", "/history", "/static/review.js", "/nowhere", f"/audio/{visitor.case}"):
        headers = visitor.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "same-origin"
    assert visitor.get("/").headers["cache-control"] == "no-store"
    assert visitor.request("DELETE", "/").status_code == 405
    assert "<style" not in visitor.page and " style=" not in visitor.page and "<script>" not in visitor.page


def test_others_need_the_token_once(store: DataManager, make_state: MakeState) -> None:
    key = add(store, 0)
    state = make_state(access=Access.for_host("0.0.0.0"), reviewer="")
    visitor = Visitor(state, "http://10.0.0.7:8377")
    for path in ("/", "/history", f"/audio/{key}", "/static/review.css", f"/enter/../audio/{key}"):
        assert visitor.get(path).status_code == 401
    assert "password" in visitor.get("/enter").text
    assert visitor.get("/enter?token=wrong").status_code == 401 and visitor.get("/").status_code == 401
    answer = visitor.get(f"/enter?token={state.access.token}")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and state.access.token.lower() not in cookie
    visitor.look()  # asks who this is, since nobody on the network is known
    assert "Who reviews in this browser?" in visitor.page
    assert visitor.submit("/name", name="  Zoë  B. ").status_code == 200
    visitor.decide(text="please hold the line")
    assert store.corrections(key)[0].author == "Zoë B."


def test_the_token_can_be_typed(make_state: MakeState) -> None:
    state = make_state(access=Access.for_host("0.0.0.0"))
    visitor = Visitor(state, "http://10.0.0.7:8377")
    token = visitor.get("/enter").text.split('name="csrf" value="')[1].split('"')[0]
    for given, status in (("wrong", 401), (state.access.token, 200)):
        assert visitor.post("/enter", data={"csrf": token, "token": given}).status_code == status
    assert visitor.get("/").status_code == 200


def test_what_is_no_name_is_asked_for_again(visitor: Visitor) -> None:
    for name in ("", "   ", "x" * 61, "a\u202eb", "a\0b"):
        assert checked_name(name) == ""
        assert visitor.submit("/name", name=name).status_code == 422
    assert "ann" in visitor.look()


def test_a_fixed_name_stays(make_state: MakeState) -> None:
    visitor = Visitor(make_state(fixed=True))
    assert 'href="/name"' not in visitor.look("/history")
    assert visitor.submit("/name", name="ben").status_code == 403
