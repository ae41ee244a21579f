import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whisper_normalizer.english import EnglishTextNormalizer

from mondegreen.errors import UsageError
from mondegreen.scoring.normalizer import _spoken_unicode, normalize, normalizer_id


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("One, two -- THREE!", "one two three"),
        ("It’s O’Neil’s", "it's o'neil's"),
        ("don`t ´ quote", "don't quote"),
        ("'Twas the dogs' \"bone\"", "twas the dogs bone"),
        ("rock ''n'' roll", "rock n roll"),
        ("co\u00adoperate zero\u200bwidth", "cooperate zerowidth"),
        ("snake_case, e-mail", "snake case e mail"),
        ("３ ½ ﬁne", "3 1 2 fine"),
        ("cafe\u0301 STRASSE İ", "café strasse i\u0307"),
        ("हिन्दी में", "हिन्दी में"),
        ("", ""),
        (" \t\n ... ' ", ""),
    ],
)
def test_spoken_known_answers(written: str, spoken: str) -> None:
    assert normalize(written) == spoken


def test_spoken_keeps_three_digits_three_words_where_whisper_joins_them() -> None:
    assert normalize("one two three").split() == ["one", "two", "three"]
    assert normalize("one two three", "english") == "123"


@given(st.text(st.characters(codec="ascii")))
def test_the_short_way_for_ascii_gives_what_the_rules_give(text: str) -> None:
    assert normalize(text) == _spoken_unicode(text)


@given(st.text())
def test_spoken_is_idempotent_and_single_spaced(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    assert once == " ".join(once.split())


@given(st.text(alphabet="abcXYZ ’'.,-0129", max_size=40))
def test_english_is_whispers_own(text: str) -> None:
    assert normalize(text, "english") == EnglishTextNormalizer()(text).strip()


def test_ids_name_version_and_library() -> None:
    assert normalizer_id("spoken") == "spoken-1"
    assert normalizer_id("english").startswith("english-whisper_normalizer-0.")


def test_unknown_name_says_what_to_set() -> None:
    with pytest.raises(UsageError, match=r"score\.normalizer"):
        normalize("a", "german")  # type: ignore[arg-type]


def test_scoring_imports_neither_torch_nor_mlflow() -> None:
    modules = ["normalizer", "wer", "significance", "decision", "slices", "transcript_files"]
    code = "import sys\n" + "".join(f"import mondegreen.scoring.{name}\n" for name in modules)
    code += "sys.exit(len({'torch', 'mlflow', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
