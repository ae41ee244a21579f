"""Gates stay shut with value, threshold and culprits; what a model cannot write is found without the model."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondegreen.cases.card import Contents, LeftOutCase, check_gates, make_card, measure_quality, render
from mondegreen.cases.snapshots import merged
from mondegreen.config import CasesParams
from mondegreen.errors import CaseError, UsageError, VocabularyError
from mondegreen.records import FailedCase
from mondegreen.speech.spelling import labeller, local_model, read_vocabulary
from tests.cases.snapshot_project import STARTER


def case(name: str, sha256: str = "", **more: object) -> FailedCase:
    values = {
        "id": name, "path": f"audio/{name}.wav", "sha256": sha256 or name, "duration": 2.0, "hypothesis": "heard",
        "model_version": "m1", "text": "said", "method": "manual", "author": "ann", "error_types": [],
        "error_score": None, "source": "production", **more,
    }  # fmt: skip
    return FailedCase.model_validate(values)


def refused(kept: list[FailedCase], left_out: list[LeftOutCase] = [], **gates: float) -> str:  # noqa: B006
    with pytest.raises(CaseError) as caught:
        contents = Contents(kept, left_out, waiting=3)
        check_gates(CasesParams.model_validate(gates), measure_quality(contents), contents)
    return str(caught.value)


def test_each_gate_names_value_threshold_culprits_and_the_way_on() -> None:
    corrupt = [LeftOutCase(id=f"c{i}", reason="corrupt_audio", message="its bytes changed.") for i in range(7)]
    said = refused([case("a")], corrupt)
    assert "cases.min_validity: 0.125 is below 0.9 (c0: its bytes changed; c1" in said
    assert "c4: its bytes changed; and 2 more)" in said and "c5" not in said
    assert "or lower cases.min_validity in params.yaml" in said and "min_completeness" not in said

    said = refused(
        [case("a"), case("b", model_version="")], [LeftOutCase(id="c", reason="missing_audio", message="gone")]
    )
    assert "cases.min_completeness: 0.3333 is below 0.95 (c: no audio; b: no model version)" in said
    assert "cases.min_validity: 0.6667 is below 0.9 (c: gone)" in said

    said = refused([case("a", "x"), case("b", "x"), case("c", "x")], [])
    assert "cases.min_uniqueness: 0.3333 is below 0.8 (recording x is 3 cases)" in said

    said = refused([], [], min_cases=2)
    assert "cases.min_cases: 0 is below 2 (waiting for a correction: 3 cases)" in said and "cases correct" in said


def test_gates_open_at_their_thresholds() -> None:
    kept = [case(str(i), model_version="" if i == 0 else "m1", sha256=str(max(i, 4))) for i in range(20)]
    left_out = [LeftOutCase(id="e", reason="empty_correction", message="its correction has no words")]
    gates = CasesParams(min_cases=20, min_completeness=20 / 21, min_validity=1.0, min_uniqueness=0.8)
    contents = Contents(kept, left_out, waiting=1000)
    check_gates(gates, measure_quality(contents), contents)


def test_a_cards_counts_follow_its_cases() -> None:
    before = [case("a"), case("b"), case("gone")]
    rows = [case("a", error_types=["noise", "repeats"]), case("b", text="anew"), case("c", "a", source="test|set")]
    contents = Contents(rows, waiting=7)
    card = make_card(4, 2, before, contents, measure_quality(contents), ["a note"])
    assert (card.cases, card.new, card.changed, card.removed, card.seconds) == (3, 1, 1, 1, 4.0)
    assert card.quality.share_by_source == {"production": 0.666667, "test|set": 0.333333}
    assert card.left_out == {"no_correction": 7}
    text = render(card)
    assert "follows version 2; 1 new, 1 corrected anew, 1 removed" in text
    assert r"| test\|set | 1 |" in text and "- a note" in text


NAMES = st.sampled_from("abcdef")
CASES = st.dictionaries(NAMES, st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(["manual", "import", "llm"])))


@given(CASES, CASES)
def test_the_parents_cases_stay_and_a_machine_never_replaces_a_person(before: dict, now: dict) -> None:
    def rows(cases: dict) -> list[FailedCase]:
        return [case(name, text=text, method=method) for name, (text, method) in cases.items()]

    found = {row.id: (row.text, row.method) for row in merged(rows(before), rows(now))}
    assert list(found) == sorted(before.keys() | now.keys())
    for name, row in found.items():
        if name not in now:
            assert row == before[name]
        elif name not in before:
            assert row == now[name]
        else:
            person_kept = before[name][1] != "llm" and now[name][1] == "llm"
            assert row == (before[name] if person_kept else now[name])


@pytest.mark.slow  # it loads transformers
def test_a_models_alphabet_is_read_as_its_tokenizer_reads_it() -> None:
    from mondegreen.speech.model import load_model

    ours, theirs = read_vocabulary(STARTER), load_model(str(STARTER)).vocabulary
    assert (ours.tokens, ours.blank, ours.delimiter) == (theirs.tokens, theirs.blank, theirs.delimiter)
    assert ours.special == theirs.special


def test_tokenizers_of_several_languages_and_older_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"eng": {"<pad>": 0, " ": 1, "a": 2}, "deu": {"<pad>": 0, "ä": 1}}))
    (tmp_path / "tokenizer_config.json").write_text('{"target_lang": "deu", "word_delimiter_token": "|"}')
    (tmp_path / "added_tokens.json").write_text('{"<s>": 3, "|": 2}')
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": {"content": "<s>"}, "pad_token": "<pad>"}')
    (tmp_path / "config.json").write_text('{"pad_token_id": 0}')
    found = read_vocabulary(tmp_path)
    assert (found.tokens, found.blank, found.special) == (("<pad>", "ä", "|", "<s>"), 0, {0, 3})
    writer = labeller(str(tmp_path))
    assert writer and writer.encode("Ä ä!", "here") == [1, 2, 1]
    with pytest.raises(VocabularyError, match="'a'"):
        writer.encode("a", "here")


def test_a_model_that_is_not_at_hand_is_not_fetched_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    for name in ("somebody/no-such-model", "models:/fine-tuned-stt@champion", str(tmp_path), "a/b/c"):
        assert local_model(name) is None and labeller(name) is None
    (tmp_path / "vocab.json").write_text('{"a": 0')
    with pytest.raises(UsageError, match=r"vocab\.json cannot be read"):
        labeller(str(tmp_path))
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(UsageError, match="does not number characters"):
        labeller(str(tmp_path))
