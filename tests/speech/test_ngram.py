"""N-gram models: against the formulas, against their sum of 1, and files as others write and damage them."""

import gzip
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mondegreen.errors import UsageError
from mondegreen.speech.kneser_ney import language_model
from mondegreen.speech.ngram import BEGIN, BEGIN_ID, END, UNKNOWN, NGramModel
from mondegreen.speech.ngram_files import read_lm, write_lm

sentences = st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=6), min_size=1, max_size=25)
cuts = st.sampled_from([(0,), (0, 0, 1), (0, 1, 1), (0, 1, 2)])


def history(model: NGramModel, words: Sequence[str]) -> tuple[int, ...]:
    found = model.begin
    for word in words:
        found = model.score(found, model.ids.get(word, 0))[1]
    return found


@given(text=sentences, order=st.integers(1, 4), prune=cuts, before=st.lists(st.sampled_from("abcdez"), max_size=4))
@settings(max_examples=80, deadline=None)
def test_the_words_behind_any_history_have_a_probability_of_1_together(
    text: list[list[str]], order: int, prune: tuple[int, ...], before: list[str]
) -> None:
    model, _ = language_model(text, order, prune)
    known = history(model, before)
    total = sum(math.exp(model.score(known, word)[0]) for word in range(len(model.words)) if word != BEGIN_ID)
    assert total == pytest.approx(1, abs=1e-5)


class Written:
    """Interpolated modified Kneser-Ney as the papers write it, n-gram by n-gram; nothing is pruned."""

    def __init__(self, text: list[list[str]], order: int) -> None:
        lines = [[BEGIN, *line, END] for line in text]
        self.order, self.counts = order, dict[int, Counter[tuple[str, ...]]]()
        raw = {
            n: Counter(tuple(line[i : i + n]) for line in lines for i in range(len(line) - n + 1))
            for n in range(1, order + 1)
        }
        for n in range(1, order + 1):
            if n == order:
                self.counts[n] = raw[n]
                continue
            behind = defaultdict(set)
            for gram in raw[n + 1]:
                behind[gram[1:]].add(gram[0])
            self.counts[n] = Counter({g: raw[n][g] if g[0] == BEGIN else len(behind[g]) for g in raw[n]})
        self.counts[1].pop((BEGIN,))
        self.words = {word for line in text for word in line} | {END, UNKNOWN}

    def discount(self, n: int, count: int) -> float:
        many = Counter(self.counts[n].values())
        values = [0.5, 1.0, 1.5]
        if all(many[k] for k in (1, 2, 3, 4)):
            share = many[1] / (many[1] + 2 * many[2])
            found = [k - (k + 1) * share * many[k + 1] / many[k] for k in (1, 2, 3)]
            values = found if all(0 < value <= k for k, value in enumerate(found, 1)) else values
        return values[min(count, 3) - 1]

    def prob(self, words: tuple[str, ...]) -> float:
        if not words:
            return 1 / len(self.words)
        n, context = len(words), words[:-1]
        here = {gram: count for gram, count in self.counts[n].items() if gram[:-1] == context}
        if not here:
            return self.prob(words[1:])
        total = sum(here.values())
        left = sum(self.discount(n, count) for count in here.values()) / total
        count = here.get(words, 0)
        own = (count - self.discount(n, count)) / total if count else 0.0
        return own + left * self.prob(words[1:])


@given(text=sentences, order=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_every_probability_is_that_of_the_formulas(text: list[list[str]], order: int) -> None:
    model, written = language_model(text, order, (0,))[0], Written(text, order)
    order = model.order  # shorter where no sentence is so long
    for before in ([], ["a"], ["a", "b"], ["c", "c"]):
        for word in sorted(written.words):
            expected = written.prob((*[BEGIN, *before][len(before) + 2 - order :][-(order - 1) or 9 :], word))
            found = model.score(history(model, before), model.ids[word])[0]
            assert math.exp(found) == pytest.approx(expected, rel=1e-4)


def test_a_cut_n_gram_gives_its_share_to_the_shorter_ones() -> None:
    text = [list("abc")] * 3 + [list("abd")]
    whole, cut = (language_model(text, 3, prune)[0] for prune in ((0,), (0, 1)))
    assert len(cut.orders[2].keys) < len(whole.orders[2].keys)
    rare = [math.exp(model.score(history(model, "ab"), model.ids["d"])[0]) for model in (whole, cut)]
    assert 0 < rare[1] < rare[0]
    with pytest.raises(UsageError, match="fall"):
        language_model(text, 3, (0, 2, 1))
    with pytest.raises(UsageError, match="no sentence"):
        language_model([[]], 3)


@pytest.mark.parametrize("name", ["m.lm", "m.arpa", "m.arpa.gz"])
def test_a_file_gives_the_model_back(name: str, tmp_path: Path) -> None:
    text = [list("abcab"), list("bca"), ["\u00e4\u00a0x", "b"]]
    model = language_model(text, 3, (0,))[0].at(0.25, -1.5)
    write_lm(tmp_path / name, model)
    found = read_lm(tmp_path / name)
    for sentence in (*text, ["a", "zz", "b"]):
        pairs = zip(found.sentence(sentence), model.sentence(sentence), strict=True)
        assert all(a[0] == pytest.approx(b[0], abs=1e-4) and a[1] == b[1] for a, b in pairs)
    if name == "m.lm":
        assert (found.alpha, found.beta, found.digest) == (0.25, -1.5, model.digest)
        assert not found.orders[1].keys.flags.owndata
        assert found.at(0, 0).digest == "" and found.at(0.5, -1.5).digest != found.digest


ARPA = """SRILM wrote this

\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-1.0\t<UNK>
-99\t<s>\t-0.5
-0.7\t</s>
-0.4\ta\t-0.2
-0.9\tb\t-0.1

\\2-grams:
-0.3\t<s> a
-0.2\ta b
-0.6\tb </s>

\\end\\
"""


def test_an_arpa_file_of_others_is_read(tmp_path: Path) -> None:
    path = tmp_path / "other.arpa"
    path.write_text(ARPA)
    found = read_lm(path)
    logs = [score / math.log(10) for score, _ in found.sentence(["a", "b", "x"])]
    assert logs == pytest.approx([-0.3, -0.2, -1.1, -0.7], abs=1e-6)
    path.write_text(ARPA.replace("-1.0\t<UNK>\n", "").replace("ngram 1=5", "ngram 1=4"))  # a closed vocabulary
    assert read_lm(path).sentence(["x"])[0] == (pytest.approx(-1.4 * math.log(10), abs=1e-6), False)


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("-0.4\ta", "-0.4x\ta", 11, "something else than a number"),
        ("-0.4\ta", "nan\ta", 11, "no logarithm"),
        ("-0.4\ta", "0.4\ta", 11, "no logarithm"),
        ("-0.4\ta\t-0.2", "-0.4\tb\t-0.2", 12, "stands twice"),
        ("-0.7\t</s>\n", "-0.7\tc\n", 12, "</s>"),
        ("ngram 1=5", "ngram 1=4", 12, "2-grams: should be"),
        ("ngram 1=5", "ngram 1=6", 14, "no 1-gram"),
        ("ngram 2=3", "ngram 2=2", 17, "more 2-grams"),
        ("ngram 2=3", "ngram 3=3", 5, "ngram 2="),
        ("ngram 2=3", "ngram 2=x", 5, "a number"),
        ("a b\n", "a c\n", 16, "not among the 1-grams"),
        ("a b\n", "a b c d\n", 16, "no 2-gram"),
        ("a b\n", "<s> a\n", 16, "stands twice"),
        ("a b\n", "a b\t-0.1\n", 16, "no back-off"),
        ("\\end\\", "", 19, "ends here"),
        ("\\data\\", "", 7, "stands before"),
        ("SRILM", "\udcff", 1, "UTF-8"),
    ],
)  # fmt: skip
def test_a_damaged_arpa_file_is_refused_with_its_line(old: str, new: str, line: int, said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.arpa"
    path.write_bytes(ARPA.replace(old, new, 1).encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError) as raised:
        read_lm(path)
    assert re.match(rf"{re.escape(str(path))}:{line}: .*{re.escape(said)}", raised.value.problem), raised.value


def test_an_n_gram_needs_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "bad.arpa"
    text = ARPA.replace("ngram 2=3", "ngram 2=3\nngram 3=1").replace("\\end\\", "\\3-grams:\n-0.1\tb a </s>\n\n\\end\\")
    path.write_text(text)
    with pytest.raises(UsageError, match=r":21: 'b a </s>' begins with words that are no 2-gram"):
        read_lm(path)


def test_no_damage_of_a_packed_file_is_a_traceback(tmp_path: Path) -> None:
    whole, path, refused = gzip.compress(ARPA.encode()), tmp_path / "bad.arpa.gz", 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with suppress(UsageError):
            read_lm(path)
            continue
        refused += 1
    assert refused > len(whole) / 2


@pytest.mark.parametrize("keep", [0, 5, 60, 400])
def test_a_damaged_compact_file_is_refused(keep: int, tmp_path: Path) -> None:
    write_lm(tmp_path / "m.lm", language_model([list("abcab")], 2)[0])
    (tmp_path / "bad.lm").write_bytes((tmp_path / "m.lm").read_bytes()[:keep])
    with pytest.raises(UsageError, match=r"bad\.lm is no language model"):
        read_lm(tmp_path / "bad.lm")
    whole = gzip.compress(ARPA.encode())
    (tmp_path / "bad.arpa.gz").write_bytes(whole[: max(keep % len(whole), 1)] if keep else b"no gzip")
    with pytest.raises(UsageError, match=r"bad\.arpa\.gz:\d+: the file cannot be read on"):
        read_lm(tmp_path / "bad.arpa.gz")


def test_arrays_out_of_order_are_refused(tmp_path: Path) -> None:
    model = language_model([list("abcab")], 2, (0,))[0]
    keys = model.orders[1].keys.copy()
    keys[:2] = keys[1::-1]
    orders = (model.orders[0], type(model.orders[1])(keys, model.orders[1].log_probs, model.orders[1].backoffs))
    write_lm(tmp_path / "bad.lm", NGramModel(model.words, orders))
    with pytest.raises(UsageError, match="2-grams are not in order"):
        read_lm(tmp_path / "bad.lm")
    with pytest.raises(UsageError, match="does not exist"):
        read_lm(tmp_path / "none.lm")
    assert np.all(np.diff(model.orders[1].keys) > 0)
