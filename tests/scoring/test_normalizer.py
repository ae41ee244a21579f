import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whisper_normalizer.english import EnglishTextNormalizer

from mondegreen.errors import UsageError
from mondegreen.scoring.normalizer import _spoken_unicode, normalize, normalizer_id, words_of
from mondegreen.scoring.wer import count_characters, count_words, read_pair


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
        ("cafe\u0301 STRASSE İ", "café strasse i"),
        ("हिन्दी में", "हिन्दी में"),
        ("Straße WEIẞ ΟΔΟΣ οδός İzmir i\u0307zmir", "strasse weiss οδοσ οδόσ izmir izmir"),
        ("كِتَابٌ كـتاب שָׁלוֹם", "كتاب كتاب שלום"),
        ("می‌خواهم Hawaiʻi мʼята", "میخواهم hawai'i м'ята"),
        ("\u0958\u093f क\u093cि 한국", "क़ि क़ि 한국"),
        ("น้ำ ｶﾀｶﾅ", "น้ำ カタカナ"),
        ("❤\ufe0f love 1\ufe0f\u20e3 ☺\ufe0e a\u034fb", "love 1 ab"),
        ('צ׳יפס א׳ צה״ל צה"ל ה"ארץ" ״שלום״', "צ'יפס א צהל צהל הארץ שלום"),
        ("Բարև ԲԱՐԵՎ բարեւ", "բարեվ բարեվ բարեվ"),
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
    assert normalizer_id("spoken") == "spoken-3"
    assert normalizer_id("english").startswith("english-whisper_normalizer-0.")


def test_unknown_name_says_what_to_set() -> None:
    with pytest.raises(UsageError, match=r"score\.normalizer"):
        normalize("a", "german")  # type: ignore[arg-type]


def test_scoring_imports_neither_torch_nor_mlflow() -> None:
    modules = ["normalizer", "wer", "significance", "decision", "slices", "transcript_files"]
    code = "import sys\n" + "".join(f"import mondegreen.scoring.{name}\n" for name in modules)
    code += "sys.exit(len({'torch', 'mlflow', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("reference", "hypothesis", "errors"),
    [
        ("İstanbul Işık açık", "istanbul ışık açık", 0),
        ("İstanbul Işık açık", "İSTANBUL IŞIK AÇIK", 0),
        ("IRMAK", "ırmak", 0),
        ("kızıl", "kizil", 1),  # another letter is an error
        ("KIZIL kapı", "kizil kapi", 1),
        ("I am in Kadıköy", "i am in kadıköy", 0),  # English among it
        ("Die Straße ist weiß", "DIE STRASSE IST WEISS", 0),
        ("ΟΔΟΣ", "οδος", 0),
        ("Ο δρόμος προς το χαΐρι", "Ο ΔΡΟΜΟΣ ΠΡΟΣ ΤΟ ΧΑΪΡΙ", 0),
        ("ο δρόμος", "Ο δρομος", 1),  # a missing accent, where accents are written
        ("Բարև ձեզ և արև", "ԲԱՐԵՎ ՁԵԶ ԵՎ ԱՐԵՎ", 0),
        ("\u0e19\u0e49\u0e33", "\u0e19\u0e4d\u0e49\u0e32", 0),  # the tone within the vowel am
        ("\u0e19\u0e49\u0e33", "\u0e19\u0e33\u0e49", 0),  # behind it
        ("\u0e99\u0ec9\u0eb3", "\u0e99\u0ecd\u0ec9\u0eb2", 0),
        ("Tiếng Việt", unicodedata.normalize("NFD", "TIẾNG VIỆT"), 0),
    ],
)
def test_equal_texts_of_any_case_and_normal_form_have_no_errors(reference: str, hypothesis: str, errors: int) -> None:
    for one, other in ((reference, hypothesis), (hypothesis, reference)):
        assert count_words(*read_pair(one, other)).errors == errors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("今天天气很好", list("今天天气很好")),
        ("今天 下雨", list("今天下雨")),
        ("iphone 15 を買う", ["iphone", "15", "を", "買", "う"]),
        ("สวัสดี", list("สวัสดี")),
        ("한국어 안녕", ["한국어", "안녕"]),
        ("བོད སྐད", ["བོད", "སྐད"]),
    ],
)
def test_scripts_without_blanks_are_counted_by_character(text: str, expected: list[str]) -> None:
    assert words_of(text) == expected


def test_blanks_in_such_a_script_are_no_errors_and_words_and_characters_agree() -> None:
    reference, hypothesis = read_pair("今天，天气很好。", "今天 天汽很好")
    assert count_words(reference, hypothesis) == count_characters(reference, hypothesis)
    assert count_words(reference, hypothesis).errors == 1
    assert count_words(*read_pair("สวัสดี ครับ", "สวัสดีครับ")).errors == 0
