"""Transcripts are written in the tokenizer's own alphabet, or the file is named."""

import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mondegreen.errors import UsageError, VocabularyError
from mondegreen.speech.decoding import Vocabulary
from mondegreen.speech.spelling import read_vocabulary
from mondegreen.speech.text import Labeller, min_frames, named

UPPER = Vocabulary(
    ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"), 0, "|", frozenset({0, 1, 2, 3})
)
LOWER = Vocabulary(("[PAD]", "|", *"abcdefghijklmnopqrstuvwxyzé"), 0, "|", frozenset({0}))


def written(vocabulary: Vocabulary, text: str) -> str:
    labels = Labeller(vocabulary).encode(text, "x.wav")
    return "".join(vocabulary.tokens[label] for label in labels)


@pytest.mark.parametrize(
    ("vocabulary", "text", "expected"),
    [
        (UPPER, "Hello there", "HELLO|THERE"),
        (LOWER, "HELLO there", "hello|there"),
        (UPPER, "Don’t, “really” … stop!", "DON'T|REALLY|STOP"),
        (LOWER, "Don’t", "dont"),
        (UPPER, "twenty-one\n—  and/or", "TWENTY|ONE|AND|OR"),
        (LOWER, "cafe\u0301", "café"),
        (UPPER, "soft\u00adhyphen", "SOFTHYPHEN"),
        (UPPER, " … ", ""),
    ],
)
def test_labels_follow_the_tokenizer(vocabulary: Vocabulary, text: str, expected: str) -> None:
    assert written(vocabulary, text) == expected


AZ = "abcdefghijklmnopqrstuvwxyz"
RUSSIAN, GREEK = "абвгдежзийклмнопрстуфхцчшщъыьэюяё", "αβγδεζηθικλμνξοπρστυφχψωάέήίόύώϊ"
ARABIC, HEBREW = "ابتثجحخدذرزسشصضطظعغفقكلمنهويءةىأإآؤئ", "אבגדהוזחטיכלמנסעפצקרשתךםןףץ"
HINDI = "अआइईउऊएऐओऔकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसहािीुूेैोौं्ँः"
JAMO = [chr(code) for code in (*range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A8, 0x11C3))]
TEXTS = [  # alphabet, transcript, what the labels spell
    # Latin
    (AZ.upper() + "'", "Don’t, o`clock!", "DON'T O'CLOCK"),
    (AZ + "éèêëàâçîïôûùœ", "L\u2019ÉTÉ où cœur", "lété où cœur"),
    (AZ + "\u0301\u0300", "Été où", "été où"),
    (AZ.upper() + "ÄÖÜß", "Die Straße ist weiß", "DIE STRAßE IST WEIß"),
    (AZ.upper() + "ÄÖÜ", "Große Füße", "GROSSE FÜSSE"),
    (AZ.upper() + "ÄÖÜẞ", "Große Füße", "GROẞE FÜẞE"),
    (AZ + "äöüß", "GROẞE Straße", "große straße"),
    (AZ + "äöü", "GROẞE Straße", "grosse strasse"),
    (AZ + "çğıöşüâ", "Işık İstanbul IRMAK i\u0307yi", "ışık istanbul ırmak iyi"),
    (AZ.upper() + "ÇĞİÖŞÜ", "ışık istanbul iyi", "IŞIK İSTANBUL İYİ"),
    (AZ + "i\u0307", "İzmir", "i\u0307zmir"),
    (AZ + "əğıöşüç", "Azərbaycan Ilıq İl", "azərbaycan ılıq il"),
    (AZ + "ʻʼ", "O'zbekiston ma'no g‘isht", "oʻzbekiston maʼno gʻisht"),
    (AZ + "ʻāēīōū", "Hawai'i ʻĀina ‘okina", "hawaiʻi ʻāina ʻokina"),
    (AZ + "ẹọṣáàéèíìóòúù\u0301\u0300", "Ẹ̀kọ́ ọmọ", "ẹ̀kọ́ ọmọ"),
    (AZ + "\u0323\u0301\u0300", "Ẹ̀kọ́ ọmọ ṣé", "ẹ̀kọ́ ọmọ ṣé"),
    (AZ + "ăâđêôơư\u0300\u0301\u0309\u0303\u0323", "Tiếng Việt được", "tiếng việt được"),
    (AZ + "đ\u0302\u0306\u031b\u0300\u0301\u0309\u0303\u0323", "Tiếng Việt ĐƯỢC", "tiếng việt được"),
    (AZ + "áéíóúüñ", "¿Qué? ¡Mañana!", "qué mañana"),
    (AZ + "ąćęłńóśźż", "ZAŻÓŁĆ gęślą", "zażółć gęślą"),
    (AZ + "A", "All ﬁne", "all fine"),  # a stray capital, a ligature
    (AZ + AZ.upper(), "All Mixed", "All Mixed"),
    ([*"abehnlo", "sch", "tʃ"], "Schale tʃ bla", "schale tʃ bla"),
    ([*AZ, "c'h"], "c’hoar C’HOAR c'hoar", "c'hoar c'hoar c'hoar"),
    ([*AZ, "oʻ"], "so‘z moʼ", "soʻz mo"),
    # Greek
    (GREEK + "ς", "ΟΔΟΣ, οδός", "οδος οδός"),
    (GREEK, "οδός", "οδόσ"),
    (GREEK.upper(), "οδός", "ΟΔΌΣ"),
    # Cyrillic
    ("абвгґдеєжзиіїйклмнопрстуфхцчшщьюяʼ", "М'ята, сім’я, обʼєкт", "мʼята сімʼя обʼєкт"),
    ("абвгґдеєжзиії\u0306клмнопрстуфхцчшщьюя’", "мій пʼять", "мій п’ять"),
    (RUSSIAN.upper(), "Ещё мой", "ЕЩЁ МОЙ"),
    ("абвгдежзийклмнопрстуфхцчшщъыьэюяәғқңөұүһі", "Қазақ тілі", "қазақ тілі"),
    # Georgian, Armenian
    ("აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ", "გამარჯობა", "გამარჯობა"),
    ("աբգդեզէըթժիլխծկհձղճմյնշոչպջռսվտրցւփքօֆև", "Բարև Ձեզ", "բարև ձեզ"),
    # Arabic, Persian
    (ARABIC, "كتاب، مدرسة؟", "كتاب مدرسة"),
    (ARABIC, "كِتَابٌ مَدْرَسَة", "كتاب مدرسة"),
    (ARABIC + "ٌَُِْ", "كِتَابٌ", "كِتَابٌ"),
    (ARABIC + "پچژگکی\u200c", "می‌روم", "می‌روم"),
    (ARABIC + "پچژگکی", "می‌روم کـتاب", "میروم کتاب"),
    # Hebrew
    (HEBREW, "שָׁלוֹם", "שלום"),
    (HEBREW + "\u05b8\u05c1\u05b9", "שָׁלוֹם", "שָׁלוֹם"),
    # Devanagari, Bengali, Tamil, Malayalam
    (HINDI + "\u093c", "क़िताब हिन्दी", "क़िताब हिन्दी"),
    (HINDI + "\u0958ड़", "क़िताब लड़का", "क़िताब लड़का"),
    (HINDI, "क्\u200dष", "क्ष"),
    ("অআইঈউঊএঐওঔকখগঘঙচছজঝঞটঠডঢণতথদধনপফবভমযরলশষসহািীুূেৈোৌ্ংয়ড়", "বাংলা হয় ভালো", "বাংলা হয় ভালো"),
    ("அஆஇஈஉஊஎஏஐஒஓகஙசஞடணதநபமயரலவழளறனாிீுூெேைொோௌ்", "தமிழ் மொழி", "தமிழ் மொழி"),
    ("അആഇഈഉഊഎഏഐഒഓകഖഗഘങചജഞടണതദനപഫബഭമയരലവശഷസഹളഴറാിീുൂെേൊോ്ംൻർൽ", "മലയാളം അവൻ", "മലയാളം അവൻ"),
    (HEBREW + "'", "צ׳יפס", "צ'יפס"),
    (HEBREW + "׳", "צ'יפס", "צ׳יפס"),
    (HEBREW + '"', "צה״ל ״שלום״", 'צה"ל "שלום"'),
    (HEBREW + "״", 'צה"ל', "צה״ל"),
    (HEBREW, 'צה״ל צה"ל ״שלום״', "צהל צהל שלום"),
    # Thai, Khmer, Tibetan
    ("นทำ้", "\u0e19\u0e4d\u0e49\u0e32 \u0e17\u0e4d\u0e32", "\u0e19\u0e49\u0e33 \u0e17\u0e33"),
    ("นทา้\u0e4d", "\u0e19\u0e49\u0e33", "\u0e19\u0e49\u0e4d\u0e32"),
    ("กขคงจชซญดตทนบปผพฟมยรลวสหอฮะาำิีึืุูเแโใไ็่้๊๋์ั", "สวัสดีครับ น้ำ", "สวัสดีครับ น้ำ"),
    ("កខគឃងចឆជឈញដឋឌណតថទធនបផពភមយរលវសហឡអាិីុូួើោាំះ្ែ", "ភាសាខ្មែរ", "ភាសាខ្មែរ"),
    ("ཀཁགངཅཆཇཉཏཐདནཔཕབམཙཚཛཝཞཟའཡརལཤསཧཨིེོུྐྒྱྲླ་", "བོད་སྐད", "བོད་སྐད"),
    # Hangul, kana and kanji, Han
    ("한국어안녕", "한국어 안녕", "한국어 안녕"),
    (JAMO, "한국어 안녕", "한국어 안녕"),
    ("今日は天気ガギかがー\u3099", "今日はガー", "今日はガー"),
    ("かきはへー\u3099", "がぎは", "がぎは"),
    ("今天气很好", "今天，天气很好。", "今天 天气很好"),
    # Ethiopic, Cherokee
    ("ሀለሐመሠረሰሸቀበተኀነአከወዘየደገጠጸፈላም", "ሰላም", "ሰላም"),
    ("ᎣᏏᏲᏣᎳᎩ", "ᎣᏏᏲ ᏣᎳᎩ", "ᎣᏏᏲ ᏣᎳᎩ"),
]


def alphabet(letters: Sequence[str]) -> Vocabulary:
    return Vocabulary(("[PAD]", "|", *letters), 0, "|", frozenset({0}))


@pytest.mark.parametrize(
    ("letters", "text", "spelt"), TEXTS, ids=[f"{n}-{text}" for n, (_, text, _) in enumerate(TEXTS)]
)
def test_labels_spell_the_transcript_in_every_script(letters: Sequence[str], text: str, spelt: str) -> None:
    vocabulary = alphabet(letters)
    found = Labeller(vocabulary).write(text)
    assert not found.lacking
    assert unicodedata.normalize("NFC", vocabulary.text(found.labels)) == unicodedata.normalize("NFC", spelt)


def test_the_table_holds_fifteen_scripts() -> None:
    names = {unicodedata.name(letter).split()[0] for _, text, _ in TEXTS for letter in text if letter.isalpha()}
    assert len(TEXTS) >= 40 and len(names) >= 15


@pytest.mark.parametrize(
    ("letters", "text", "unwritten"),
    [
        (ARABIC, "كِتَاب", ("ِ", "َ")),
        (HEBREW, "שָׁ", ("ָ", "ׁ")),
        (ARABIC + "ی", "می‌روم", ("\u200c",)),
        (AZ, "don't", ("'",)),
        (HEBREW, "צה״ל", ("״",)),
        (AZ, "a\u034fb", ("\u034f",)),
        (AZ, "co\u00adoperate 'quoted'", ("'",)),
    ],
)
def test_what_labels_do_without_is_counted(letters: str, text: str, unwritten: tuple[str, ...]) -> None:
    found = Labeller(alphabet(letters)).write(text)
    assert (found.lacking, found.unwritten) == ((), unwritten)


@given(st.sampled_from(TEXTS), st.sampled_from(["NFC", "NFD"]))
def test_the_normal_form_of_a_transcript_changes_no_label(case: tuple[Sequence[str], str, str], form: str) -> None:
    letters, text, _ = case
    labeller = Labeller(alphabet(letters))
    assert labeller.write(unicodedata.normalize(form, text)) == labeller.write(text)


def test_what_the_vocabulary_lacks_is_named_as_often_as_it_stands_there() -> None:
    found = Labeller(alphabet(AZ)).write("AT&T № 1, é, ½ and ½ ｡ ☃")
    assert found.lacking == ("&", "№", "1", "é", "½", "½", "☃")
    assert named(found.lacking, 2) == "'½' (VULGAR FRACTION ONE HALF), '&' (AMPERSAND) and 4 more"


def test_a_blank_among_the_tokens_stands_between_words_where_there_is_no_delimiter() -> None:
    assert written(Vocabulary(("_", " ", *"ab"), 0, "|", frozenset({0})), "ab ba") == "ab ba"


def test_a_tokenizer_with_both_cases_keeps_the_case() -> None:
    both = Vocabulary(("_", "|", *"abAB"), 0, "|", frozenset({0}))
    assert written(both, "Ab bA") == "Ab|bA"


@pytest.mark.parametrize(
    ("text", "character"), [("call 911", "'9'"), ("café", "'é'"), ("rock & roll", "'&'"), ("$", "$")]
)
def test_what_cannot_be_written_is_an_error_that_names_file_and_character(text: str, character: str) -> None:
    with pytest.raises(VocabularyError, match=r"clean/a\.wav.*") as caught:
        Labeller(UPPER).encode(text, "clean/a.wav")
    assert character in str(caught.value)
    assert "What now" in str(caught.value)


def test_special_tokens_are_never_labels() -> None:
    with pytest.raises(VocabularyError, match="<"):
        Labeller(UPPER).encode("<s>", "x.wav")


@pytest.mark.parametrize(("labels", "frames"), [([], 0), ([5], 1), ([5, 6, 5], 3), ([5, 5, 5], 5), ([5, 5, 6, 6], 6)])
def test_equal_neighbours_need_a_blank_between_them(labels: list[int], frames: int) -> None:
    assert min_frames(labels) == frames


@pytest.mark.parametrize(
    ("file", "changes", "said"),
    [
        ("config.json", {"vocab_size": None}, "vocab_size is None, and must be a whole number"),
        ("config.json", {"pad_token_id": [0]}, r"pad_token_id is \[0\], and must be a whole number"),
        ("tokenizer_config.json", {"target_lang": ["eng"]}, "does not number characters"),
    ],
)
def test_a_tokenizer_that_is_damaged_is_refused_by_file_and_field(
    file: str, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"eng": {"<pad>": 0, "|": 1, "A": 2}}))
    (tmp_path / file).write_text(json.dumps({"vocab_size": 3, "target_lang": "eng"} | changes))
    with pytest.raises(UsageError, match=said):
        read_vocabulary(tmp_path)


@pytest.mark.parametrize("added", [True, ["<s>"], {"3": 1}, {"3": {}}, {"x": {"content": "<s>"}}])
def test_added_tokens_that_say_nothing_are_no_letters(added: object, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"<pad>": 0, "|": 1, "A": 2}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    assert Labeller(read_vocabulary(tmp_path)).write("a a").labels == [2, 1, 2]
