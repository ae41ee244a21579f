from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.errors import UsageError
from mondegreen.scoring.phrases import PhraseList, digest_with, list_of, parse_phrases, read_phrases, write_phrases

WHOLE = """
version: 1
strength: 1.5
classes: {product: 2.0}
phrases:
  - Zustand
  - phrase: mondegreen
    class: product
    sounds_like: monde green
    case: keep
  - {phrase: idle, weight: 0}
"""
texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20).filter(
    lambda text: text.strip() != ""
)
entries = st.fixed_dictionaries(
    {"phrase": texts},
    optional={
        "weight": st.floats(0, 10),
        "class": st.just("names"),
        "sounds_like": st.lists(texts, max_size=2),
        "case": st.sampled_from(["model", "keep"]),
    },
)


def test_a_list_says_what_each_phrase_weighs() -> None:
    found = parse_phrases(WHOLE, "phrases.yaml")
    assert [(item.phrase, found.weight_of(item)) for item in found.phrases] == [
        ("Zustand", 1.5), ("mondegreen", 3.0), ("idle", 0.0),
    ]  # fmt: skip
    assert found.phrases[1].sounds_like == ("monde green",)
    assert [item.phrase for item in found.active] == ["Zustand", "mondegreen"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n- b\n", "it is no list of phrases"),
        ("phrases:\n  - a\n  - 007\n", "x:3: phrase 2: "),
        ("phrases:\n  - a\n  - no\n", "quote what YAML takes"),
        ("phrases:\n  - phrase: a\n    wieght: 2\n", "x:3: phrase 1, field wieght: "),
        ("phrases:\n  - phrase: a\n    weight: -1\n", "x:3: phrase 1, field weight: "),
        ("phrases:\n  - phrase: a\n    weight: .nan\n", "x:3: phrase 1, field weight: "),
        ("phrases:\n  - phrase: a\n    weight: 1\n    weight: 2\n", "x:4: field weight stands twice"),
        ("phrases:\n  - phrase: a\n    class: drug\n", "class 'drug' is not among the classes"),
        ("phrases:\n  - phrase: a\n    case: upper\n", "x:3: phrase 1, field case: "),
        ("phrases:\n  - phrase: a\n    sounds_like: [b, '']\n", "x:3: phrase 1, field sounds_like.1: "),
        ("phrases:\n  - New York\n  - b\n  - new  york\n", "x:4: 'new  york' stands in line 2 already"),
        ("phrases: [a\n", "x:2: it is not YAML"),
        ("version: 2\nphrases: []\n", "x:1: field version: "),
        ("strength: 11\n", "x:1: field strength: "),
        ("&a phrases: *a\n", "x"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_phrases(text, "x")
    assert said in raised.value.problem and raised.value.next_step


def test_a_missing_list_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_phrases(tmp_path / "phrases.yaml")


@settings(max_examples=30, deadline=None)
@given(st.lists(entries, max_size=4, unique_by=lambda item: " ".join(str(item["phrase"]).casefold().split())))
def test_what_is_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, given_: list[dict[str, object]]
) -> None:
    found = PhraseList.model_validate({"classes": {"names": 0.5}, "strength": 0.25, "phrases": given_})
    path = tmp_path_factory.getbasetemp() / "written.yaml"
    write_phrases(path, found)
    assert read_phrases(path) == found and read_phrases(path).digest == found.digest


def test_the_digest_is_of_what_changes_a_transcript() -> None:
    found = list_of(["a", "b"], "a request", 1.0)
    assert found.digest == list_of(["b", "a"], "a request", 1.0).digest != list_of(["a"], "a request", 1.0).digest
    assert found.at(2.0).digest != found.digest
    nothing = [PhraseList(), found.at(0.0), list_of([{"phrase": "a", "weight": 0}], "a request")]
    assert {digest_with("model", item) for item in [None, *nothing]} == {"model"}
    assert digest_with("model", found) != digest_with("other", found) != "other"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"phrase": "Meyer", "sounds_like": "mayer"}, {"phrase": "Maier", "sounds_like": ["Mayer"]}),
        ({"phrase": "O'Hara", "case": "keep"}, {"phrase": "ohara"}),
        ({"phrase": "Straße"}, {"phrase": "STRASSE!"}),
        ({"phrase": "data base"}, {"phrase": "database"}),
        ({"phrase": "מִלָּה"}, {"phrase": "מלה", "weight": 0.5}),
        ({"phrase": "قلۖ"}, {"phrase": "قل", "weight": 0.5}),  # a sign of recitation
    ],
)
def test_the_order_of_phrases_that_share_a_spelling_is_a_part_of_the_digest(
    one: dict[str, object], other: dict[str, object]
) -> None:
    found, turned = list_of([one, other, "b"], "a request"), list_of([other, one, "b"], "a request")
    assert found.digest != turned.digest
    assert found.digest == list_of([one, "b", other], "a request").digest  # what shares none may stand anywhere
    assert turned.digest != list_of([one, "b"], "a request").digest


def test_a_request_is_told_which_phrase_is_wrong() -> None:
    with pytest.raises(UsageError, match="phrases: number 2: "):
        list_of(["a", " "], "phrases")
    with pytest.raises(UsageError, match="stands twice"):
        list_of(["a", "A"], "phrases")
