"""Which recordings teach, steer and judge: units that stay together, shares that come near what was asked, no leak."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.errors import LeakageError
from mondegreen.records import Split, Utterance
from mondegreen.scoring.normalizer import normalize, text_key
from mondegreen.speech.splits import Dealt, SplitRule, assign_splits, check_leakage, enough_speakers

BY_SPEAKER, BY_RECORDING = (SplitRule(normalize, by_speaker) for by_speaker in (True, False))


def utterance(path: str, **fields: str) -> Utterance:
    base = {"condition": "clean", "speaker": "", "recording": path, "reference": path, "split": "train"}
    return Utterance.model_validate(
        {"id": path, "path": path, "sha256": path, "duration": 1.0, "domain": "target", **base, **fields}
    )


def deal(
    corpus: list[Utterance], rule: SplitRule = BY_RECORDING, seed: int = 1, fixed: dict[str, Split] | None = None
) -> Dealt:
    return assign_splits(corpus, rule, seed=seed, dev=0.15, test=0.45, fixed=fixed)


rows = st.lists(
    st.builds(
        lambda number, condition, speaker, recording, reference, domain, digest: utterance(
            f"{number}",
            condition=condition,
            speaker=speaker,
            recording=recording if domain == "target" else f"retention/{recording}",  # as `discover` names them
            reference=reference,
            domain=domain,
            sha256=digest,
        ),
        st.integers(0, 10_000),
        st.sampled_from(["clean", "noisy"]),
        st.sampled_from(["", *(f"s{i}" for i in range(15))]),
        st.integers(0, 40).map(lambda i: f"r{i}"),
        st.integers(-5, 40).map(lambda i: f"Text, {i}!" if i >= 0 else ""),
        st.sampled_from(["target", "target", "target", "retention"]),
        st.integers(0, 200).map(str),
    ),
    max_size=50,
    unique_by=lambda row: row.path,
)


@settings(max_examples=150, deadline=None)
@given(rows, st.integers(0, 5), st.builds(SplitRule, st.just(normalize), st.booleans(), st.booleans()))
def test_nothing_stands_in_two_splits(corpus: list[Utterance], seed: int, rule: SplitRule) -> None:
    dealt = deal(corpus, rule, seed)
    check_leakage(dealt.rows, rule)
    homes: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in dealt.rows:
        shared = [("sha256", row.sha256), ("recording", row.recording)]
        shared += [("speaker", row.speaker)] if rule.by_speaker and row.domain == "target" and row.speaker else []
        shared += [("text", row.reference)] if row.reference and not rule.repeat_texts else []
        for key in shared:
            # A text may steer and judge, but not teach and judge.
            homes[key].add("judges" if key[0] == "text" and row.split != "train" else row.split)
    assert all(len(splits) == 1 for splits in homes.values())
    assert not [row for row in dealt.rows if row.domain == "retention" and row.split == "train"]
    assert not [row for row in dealt.rows if not row.reference and row.split != "train"]
    assert {row.path for row in dealt.rows} | {problem.path for problem in dealt.problems} == {r.path for r in corpus}
    assert dealt == deal(corpus, rule, seed)


def corpus_of(sizes: list[int], texts: list[int], *, named: bool) -> list[Utterance]:
    """A speaker (or tape) for each of `sizes`, who says the texts in turn: 0 is a sentence of the clip's own."""
    clips = [(owner, clip) for owner, size in enumerate(sizes) for clip in range(size)]
    return [
        utterance(
            f"{owner}/{clip}",
            speaker=f"s{owner}" if named else "",
            recording=f"{owner}/{clip}" if named else f"tape {owner}",
            reference=f"text {text}" if (text := texts[number % len(texts)]) else f"only {owner} {clip}",
        )
        for number, (owner, clip) in enumerate(clips)
    ]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([1, 1, 2, 5, 20, 150]), min_size=3, max_size=40),
    st.lists(st.integers(0, 12), min_size=1, max_size=30),
    st.booleans(),
    st.integers(0, 3),
)
def test_shares_are_within_one_speaker_or_tape_of_what_was_asked(
    sizes: list[int], texts: list[int], named: bool, seed: int
) -> None:
    dealt = deal(corpus_of(sizes, texts, named=named), BY_SPEAKER if named else BY_RECORDING, seed)
    total, found = sum(sizes), Counter(row.split for row in dealt.rows)
    found["train"] += dealt.repeated.total()
    assert sum(found.values()) == total
    # Texts tie at most half of the largest share together, or two clips.
    largest = max(sizes) if named else max(*sizes, 2, 0.5 * 0.45 * total)
    for split, share in {"train": 0.4, "dev": 0.15, "test": 0.45}.items():
        assert found[split] > 0 or (not named and any(texts))  # sentences that tie may leave two units
        assert share * total - 2 * largest <= found[split] <= share * total + largest


def test_one_common_word_leaves_the_speakers_where_they_were() -> None:
    corpus = corpus_of([11] * 10, [0] * 11, named=True)
    said = [row.model_copy(update={"reference": "Okay."}) if row.path.endswith("/3") else row for row in corpus]
    dealt = deal(said, BY_SPEAKER)
    trained = {row.speaker for row in dealt.rows if row.split == "train"}
    assert {row.path: row.split for row in dealt.rows}.items() <= {
        r.path: r.split for r in deal(corpus, BY_SPEAKER).rows
    }.items()
    assert len(trained) == 4
    assert dealt.repeated == {"okay": 4}
    assert {problem.path for problem in dealt.problems} == {f"{speaker[1:]}/3" for speaker in trained}
    assert dealt.shared is not None
    assert (dealt.shared.texts, dealt.shared.most, dealt.shared.units) == (1, "okay", 10)


def test_texts_that_may_repeat_stay_in_train() -> None:
    corpus = [
        utterance(f"{s}-{digit}", speaker=f"s{s}", reference=f"{digit}") for s in range(12) for digit in range(10)
    ]
    assert len({row.split for row in deal(corpus, SplitRule(normalize, True, repeat_texts=True)).rows}) == 3
    held = deal(corpus, BY_SPEAKER)
    assert {row.split for row in held.rows} == {"dev", "test"}
    assert held.repeated.total() == len(corpus) - len(held.rows)


def test_tapes_that_share_one_sentence_are_not_one_unit_and_a_pair_is() -> None:
    corpus = corpus_of([11] * 10, [0] * 11, named=False)
    said = {**dict.fromkeys(("0/3", "1/3", "2/3", "3/3"), "Okay"), **dict.fromkeys(("8/1", "9/1"), "A pair")}
    dealt = deal([row.model_copy(update={"reference": said.get(row.path, row.reference)}) for row in corpus])
    split_of = {row.path: row.split for row in dealt.rows}
    assert dealt.shared is not None
    assert dealt.shared.apart == {"okay"}
    assert split_of["8/1"] == split_of["9/1"]
    assert Counter(split_of.values()) == {"test": 44, "train": 44 - dealt.repeated.total(), "dev": 22}


def test_a_copy_of_a_retention_recording_is_not_trained_on() -> None:
    dealt = deal([utterance("a", sha256="x"), utterance("b", sha256="x", domain="retention"), utterance("c")])
    assert "a" not in {row.path for row in dealt.rows}
    assert [(problem.path, problem.reason) for problem in dealt.problems] == [("a", "in_retention")]


def test_the_smallest_split_is_filled_before_the_others_are_full() -> None:
    corpus = [utterance(f"{i}") for i in range(9)]
    dealt = assign_splits(corpus, BY_RECORDING, seed=1, dev=0.001, test=0.5)
    assert Counter(row.split for row in dealt.rows)["dev"] == 1


def test_fixed_splits_stay_and_the_rest_makes_up_for_them() -> None:
    corpus = [utterance(f"{i}", speaker=f"s{i // 10}") for i in range(200)]
    fixed: dict[str, Split] = {f"{i}": "test" for i in range(0, 60, 10)}
    split_of = {row.path: row.split for row in deal(corpus, BY_SPEAKER, fixed=fixed).rows}
    assert {split_of[f"{i}"] for i in range(60)} == {"test"}
    assert Counter(split_of.values()) == {"train": 80, "dev": 30, "test": 90}


@pytest.mark.parametrize("kind", ["sha256", "recording", "speaker"])
def test_fixed_splits_that_leak_name_both_files(kind: str) -> None:
    corpus = [utterance("one.wav", **{kind: "x"}), utterance("two.wav", **{kind: "x"})]
    with pytest.raises(LeakageError, match=r"one\.wav \(train\) and two\.wav \(test\)"):
        deal(corpus, BY_SPEAKER, fixed={"one.wav": "train", "two.wav": "test"})


@pytest.mark.parametrize("text", ["", "okay"])
def test_a_chain_between_two_fixed_splits_is_a_leak_too_whatever_both_say(text: str) -> None:
    corpus = [
        utterance("one.wav", recording="a", reference=text or "one"),
        utterance("mid.wav", recording="a", sha256="x"),
        utterance("two.wav", recording="b", sha256="x", reference=text or "two"),
    ]
    with pytest.raises(LeakageError, match=r"one\.wav.*two\.wav.*share a chain of recordings"):
        deal(corpus, fixed={"one.wav": "train", "two.wav": "test"})


@pytest.mark.parametrize("rule", [BY_SPEAKER, BY_RECORDING])
def test_a_text_that_a_fixed_split_repeats_leaves_train(rule: SplitRule) -> None:
    corpus = [utterance("one.wav", reference="Yes"), utterance("two.wav", reference="yes!"), utterance("three.wav")]
    dealt = deal(corpus, rule, fixed={"one.wav": "train", "two.wav": "test"})
    assert dealt.repeated == {"yes": 1}
    assert "one.wav" not in {row.path for row in dealt.rows}


def test_shares_are_kept_in_each_condition() -> None:
    corpus = [utterance(f"{c}{i}", condition=c) for c in ("clean", "noisy") for i in range(100)]
    result = deal(corpus).rows
    for condition in ("clean", "noisy"):
        splits = [row.split for row in result if row.condition == condition]
        assert [splits.count(s) for s in ("train", "dev", "test")] == [40, 15, 45]


def test_retention_is_dev_and_test_in_the_given_shares() -> None:
    corpus = [utterance(f"{i}", domain="retention") for i in range(60)]
    result = assign_splits(corpus, BY_RECORDING, seed=1, dev=0.15, test=0.45, retention_dev=1 / 3).rows
    splits = [row.split for row in result]
    assert [splits.count(s) for s in ("train", "dev", "test")] == [0, 20, 40]


def test_another_seed_deals_otherwise() -> None:
    corpus = [utterance(f"{i}") for i in range(40)]
    assert deal(corpus, seed=1).rows != deal(corpus, seed=2).rows


def test_the_speaker_is_the_unit_only_when_there_are_enough() -> None:
    corpus = [utterance(f"{i}", speaker=f"s{i % 9}") for i in range(30)]
    assert enough_speakers(corpus, 9)
    assert not enough_speakers(corpus, 10)


@pytest.mark.parametrize(
    "shared", [{"sha256": "x"}, {"recording": "x"}, {"reference": "The same text"}, {"speaker": "x"}]
)
def test_leakage_names_both_files(shared: dict[str, str]) -> None:
    corpus = [utterance("one.wav", **shared), utterance("two.wav", split="test", **shared)]
    with pytest.raises(LeakageError, match=r"one\.wav.*two\.wav"):
        check_leakage(corpus, BY_SPEAKER)


def test_a_sentence_in_capitals_is_the_same_whichever_small_letter_its_i_is() -> None:
    assert text_key("Ο ΔΡΟΜΟΣ") == text_key("ο δρόμος") and text_key("café") != text_key("cafe")
    texts = {"a": "IŞIK AÇIK", "b": "ışık açık", "c": "Işık", **{str(n): f"text {n}" for n in range(6)}}
    corpus = [utterance(path, reference=text) for path, text in texts.items()]
    rule = SplitRule(text_key, by_speaker=False)
    taught = {
        row.reference for row in deal(corpus, rule, fixed={"a": "train", "c": "train"}).rows if row.split == "train"
    }
    assert "ışık açık" in taught  # it follows its copy
    apart = {row.path: row.split for row in deal(corpus, rule, fixed={"b": "test", "a": "train"}).rows}
    assert apart["b"] == "test" and "a" not in apart
