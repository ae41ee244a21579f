"""The pages as a browser without scripts gets them."""

from collections.abc import Callable

import pytest

from mondegreen.cases.records import NewSuggestion
from mondegreen.cases.store import DataManager
from mondegreen.config import Params
from mondegreen.review.page import choices_of, draw, hypothesis_words, shown
from mondegreen.review.security import Access
from mondegreen.review.session import ReviewState
from tests.review.conftest import DOUBLE, HEARD, add, counts, detailed, says
from tests.review.visitor import Visitor

MakeState = Callable[..., ReviewState]


def suggest(manager: DataManager, key: str, text: str, accepted: bool = False) -> None:
    fields = {"model": "llama3.2:3b", "digest": "d", "prompt_version": "1", "guard": "acoustic", "reason": "fits less"}
    manager.store_suggestions([NewSuggestion(case_id=key, text=text, accepted=accepted, **fields)])


def test_a_case_is_shown_with_its_doubts_and_choices(store: DataManager, make_state: MakeState) -> None:
    key = add(store, 0, metadata=detailed(), error_types=["low_confidence"], error_score=0.93)
    suggest(store, key, "please old the line")
    suggest(store, key, "please hold the vine")
    visitor = Visitor(make_state())
    page = visitor.look()
    assert 'title="confidence 0.20">whole</mark>' in page and page.count("<mark") == 1
    for text in (
        "low confidence",
        "doubt 0.93",
        "0.wav",
        "<b>vine</b>",
        "acoustic: fits less",
        "refused",
        "0</b> today",
    ):
        assert text in page
    assert "old the line" not in page.replace("hold the line", "")  # the newest suggestion is shown
    assert 'data-key="1" data-text="please whole the line" data-chosen="heard"' in page
    assert 'data-key="2" data-text="please hold the vine" data-chosen="llm"' in page
    assert 'data-key="3" data-text="please hold the line" data-chosen="nbest"' in page


def test_what_a_case_holds_is_text_and_never_markup(store: DataManager, make_state: MakeState) -> None:
    bad = "<script>alert(1)</script>\"'><img src=x onerror=y>"
    key = add(
        store,
        0,
        bad,
        error_types=[bad],
        metadata={"words": bad, "nbest": [{"text": bad, "score": 0}], "confidence": bad},
    )
    suggest(store, key, bad)
    visitor = Visitor(make_state())
    assert "<script>alert" not in visitor.look() and "<img" not in visitor.page
    visitor.decide("rightly", text=bad, heard=1)
    for path in ("/history", "/disagreements", f"/case/{key}"):
        assert "<script>alert" not in visitor.look(path) and "<img" not in visitor.page


def test_words_of_another_text_are_not_marked(store: DataManager) -> None:
    key = add(store, 0, "something else", metadata=detailed())
    assert [word.confidence for word in hypothesis_words(store.get_case(key), 0.6)] == [None, None]
    odd = add(store, 1, "", metadata={"words": [{"text": 1}], "nbest": [7, {"text": "a"}]})
    assert hypothesis_words(store.get_case(odd), 0.6) == () and choices_of(store.get_case(odd), None) == ()
    assert shown(HEARD) == HEARD.lower() and shown("As Written") == "As Written"


def test_accepting_stores_and_goes_on_to_the_next(store: DataManager, make_state: MakeState) -> None:
    keys = {add(store, seed) for seed in range(2)}
    visitor = Visitor(make_state())
    visitor.look()
    first = visitor.case
    answer = visitor.decide(text="  please\thold\r\nthe line\0 ", chosen="nbest")
    assert answer.status_code == 200 and "Stored." in answer.text and "1</b> today" in answer.text
    assert counts(store, first) == ("please hold the line", "manual")
    assert store.corrections(first)[0].metadata == {"review": "single", "chosen": "nbest", "heard": False}
    assert {first, visitor.case} == keys
    visitor.decide("not_speech")
    assert "Nothing waits for you" in visitor.page and "cases add" in visitor.page and "cases snapshot" in visitor.page


def test_the_waveform_of_the_next_case_is_drawn_ahead(store: DataManager, make_state: MakeState) -> None:
    for seed in range(2):
        add(store, seed)
    visitor = Visitor(make_state())
    draw.cache_clear()
    visitor.look()
    assert draw.cache_info().currsize == 2
    visitor.decide(text="a")
    assert draw.cache_info().currsize == 2 and draw.cache_info().hits


def test_undo_shows_the_case_again_with_what_was_written(store: DataManager, make_state: MakeState) -> None:
    key = add(store, 0)
    visitor = Visitor(make_state())
    visitor.look()
    visitor.decide(text="please hold the lion")
    answer = visitor.submit("/undo")
    assert "Taken back" in answer.text and ">please hold the lion</textarea>" in answer.text and visitor.case == key
    assert counts(store, key) == (None, None)
    assert visitor.submit("/undo").status_code == 409
    assert (
        "please hold the lion"
        not in Visitor(make_state(reviewer="ben")).look(f"/case/{key}?undone=1").split("<details")[0]
    )


def test_empty_means_nothing_was_said_when_it_is_said_twice(store: DataManager, make_state: MakeState) -> None:
    key = add(store, 0)
    visitor = Visitor(make_state())
    visitor.look()
    answer = visitor.decide(text=" ")
    assert answer.status_code == 422 and "If nothing was said" in answer.text and counts(store, key) == (None, None)
    assert 'name="empty" value="1"' in visitor.page
    visitor.decide(text="", empty=1)
    assert counts(store, key) == ("", "manual")


HEARD_IT = {"heard": 1}


@pytest.mark.parametrize(
    ("action", "text", "fields", "stored"),
    [
        ("text", HEARD.lower(), {}, False),  # Enter on a fresh page
        ("text", "Please, whole the line!", {}, False),  # the same words
        ("text", HEARD.lower(), {"chosen": "typed"}, False),  # whatever the form claims
        ("rightly", HEARD.lower(), {}, False),  # said without listening
        ("text", HEARD.lower(), HEARD_IT, False),  # Enter once too often, while it played
        ("rightly", HEARD.lower(), HEARD_IT, True),
        ("text", "please hold the line", {"chosen": "nbest"}, False),  # another guess of the machine's
        ("text", "please hold the line", {"chosen": "nbest"} | HEARD_IT, True),
        ("text", "please hold the vine", {"chosen": "llm"}, False),
        ("text", "please told the line", {}, True),  # nobody but a person wrote that
    ],
)
def test_a_machines_text_that_nobody_heard_is_never_gold(
    store: DataManager, make_state: MakeState, action: str, text: str, fields: dict[str, object], stored: bool
) -> None:
    key = add(store, 0, metadata=detailed())
    suggest(store, key, "please hold the vine")
    visitor = Visitor(make_state())
    visitor.look()
    answer = visitor.decide(action, text=text, **fields)
    assert (answer.status_code == 200) == stored
    assert counts(store, key) == ((text, "manual") if stored else (None, None))
    if stored:
        assert store.corrections(key)[0].metadata["heard"] == bool(fields.get("heard"))
    else:
        assert answer.status_code == 422 and f">{text}</textarea>" in answer.text
        assert ("Heard rightly (H)" in answer.text) == ("heard" in fields)


def test_a_silence_that_nobody_heard_is_none(store: DataManager, make_state: MakeState) -> None:
    key = add(store, 0, heard="")
    visitor = Visitor(make_state())
    visitor.look()
    assert visitor.decide(text="", empty=1).status_code == 422 and counts(store, key) == (None, None)
    assert visitor.decide("rightly", text="", empty=1, heard=1).status_code == 200
    assert counts(store, key) == ("", "manual")


def test_what_cannot_be_played_cannot_have_been_heard_rightly(store: DataManager, make_state: MakeState) -> None:
    key = add(store, 0)
    store.audio_path(key).unlink()
    visitor = Visitor(make_state())
    assert 'value="rightly"' not in visitor.look() and 'name="heard"' not in visitor.page
    assert visitor.decide(text=HEARD).status_code == 422 and counts(store, key) == (None, None)


def test_a_text_for_an_outdated_page_is_kept_and_asked_about(store: DataManager, make_state: MakeState) -> None:
    key = add(store, 0)
    visitor = Visitor(make_state())
    visitor.look()
    says(store, key, "ben", "please fold the line")
    answer = visitor.decide(text="please hold the line")
    assert answer.status_code == 409 and ">please hold the line</textarea>" in answer.text
    assert counts(store, key) == ("please fold the line", "manual")
    visitor.decide(text="please hold the line")
    assert counts(store, key) == ("please hold the line", "manual")


def test_a_form_that_is_sent_twice_is_one_decision(store: DataManager, make_state: MakeState) -> None:
    key = add(store, 0)
    visitor = Visitor(make_state())
    page = visitor.look()
    for _ in range(2):
        visitor.page = page
        assert visitor.decide(text="please hold the line").status_code == 200
    assert len(store.corrections(key)) == 1


def test_odd_characters_are_pointed_out_and_kept(store: DataManager, make_state: MakeState) -> None:
    key = add(store, 0)
    visitor = Visitor(make_state())
    visitor.look()
    assert visitor.submit("/spelling", text="pay 5 €, don’t").json() == [
        {"character": "5", "name": "digit five"},
        {"character": "€", "name": "euro sign"},
    ]
    answer = visitor.decide(text="pay 5 €")
    assert "not trained on" in answer.text and counts(store, key) == ("pay 5 €", "manual")


def test_audio_comes_in_ranges(store: DataManager, make_state: MakeState) -> None:
    key = add(store, 0)
    visitor = Visitor(make_state())
    whole = visitor.get(f"/audio/{key}")
    assert whole.status_code == 200 and whole.headers["content-type"] == "audio/wav"
    assert whole.content == store.audio_path(key).read_bytes() and whole.headers["accept-ranges"] == "bytes"
    part = visitor.get(f"/audio/{key}", headers={"range": "bytes=10-19"})
    assert part.status_code == 206 and part.content == whole.content[10:20]
    assert visitor.get(f"/audio/{key}", headers={"range": "bytes=999999-"}).status_code == 416
    store.audio_path(key).unlink()
    assert visitor.get(f"/audio/{key}").status_code == 503
    assert "cannot be played" in visitor.look() and visitor.decide("bad_audio").status_code == 200


def test_a_second_person_does_not_see_the_first_ones_words(store: DataManager, make_state: MakeState) -> None:
    key = add(store, 0)
    says(store, key, "ann", "a secret", params=DOUBLE)
    ben = Visitor(make_state(DOUBLE, reviewer="ben"))
    for path in ("/", "/history", "/disagreements", f"/case/{key}"):
        assert "a secret" not in ben.look(path)
    assert "a secret" in Visitor(make_state(DOUBLE)).look("/history")
    ben.look()
    assert "Somebody else heard it differently" in ben.decide(text="a sea crate").text
    cas = Visitor(make_state(DOUBLE, reviewer="cas"))
    page = cas.look("/disagreements")
    assert "<b>secret</b>" in page and "<b>sea</b>" in page and "100.0 %" in page  # two errors, two words
    page = cas.look(f"/case/{key}")
    assert 'data-text="a secret" data-chosen="reviewer"' in page and "Two people heard this differently" in page
    assert cas.decide(text="a secret", chosen="reviewer", heard=1).status_code == 200
    assert counts(store, key) == ("a secret", "manual")
    assert "Nothing." in cas.look("/disagreements")


def test_a_name_can_be_changed_and_lets_the_case_go(store: DataManager, make_state: MakeState) -> None:
    key = add(store, 0)
    state = make_state(reviewer="")
    visitor, other = Visitor(state), Visitor(state)
    for person, name in ((visitor, "ann"), (other, "ben")):
        person.look()
        person.submit("/name", name=name)
    assert visitor.look() and visitor.case == key and "open elsewhere (ann)" in other.look()
    assert "ann has this case open" in other.look(f"/case/{key}")
    visitor.submit("/name", name="cas")  # and gets it again, as another person
    assert "open elsewhere (cas)" in other.look()
    assert visitor.submit("/lease").status_code == 204


def test_odd_addresses_of_the_history_are_no_fault(store: DataManager, make_state: MakeState) -> None:
    key = add(store, 0)
    says(store, key, "Zoë & Co", "please hold the line")
    visitor = Visitor(make_state())
    assert "reviewer=Zo%C3%AB%20%26%20Co" in visitor.look("/history")
    assert "please hold" in visitor.look("/history?reviewer=Zo%C3%AB%20%26%20Co")
    assert "please hold" not in visitor.look("/history?reviewer=ben")
    assert visitor.look("/history?reviewer=%00") and visitor.look("/history?before=1")
    for path in (
        "/history?before=99999999999999999999",
        f"/case/{key}?undone=99999999999999999999",
        "/history?before=x",
    ):
        assert visitor.get(path).status_code == 422


@pytest.mark.parametrize("fields", [{"action": "delete"}, {"basis": "x"}, {"chosen": "magic"}])
def test_a_form_with_wrong_fields_is_refused(store: DataManager, make_state: MakeState, fields: dict[str, str]) -> None:
    key = add(store, 0)
    visitor = Visitor(make_state())
    visitor.look()
    answer = visitor.submit(f"/case/{key}", **({"action": "text", "basis": 0, "text": "a"} | fields))
    assert answer.status_code == 422 and counts(store, key) == (None, None) and "Back to the cases" in answer.text


def test_without_the_models_alphabet_nothing_is_said_of_it(store: DataManager) -> None:
    add(store, 0)
    state = ReviewState(store, Params.model_validate({"model": {"base": "nobody/no-such-model"}}), Access(), "ann")
    visitor = Visitor(state)
    visitor.look()
    assert visitor.submit("/spelling", text="5 €").json() == []
