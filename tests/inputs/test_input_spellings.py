"""Every set of transcripts that a model's alphabet once lost letters of, by name: what its labels spell, in whole."""

import csv
import json
from pathlib import Path

import pytest

from mondegreen.speech.decoding import Vocabulary
from mondegreen.speech.text import Labeller

FOLDER = Path(__file__).parent / "ft"
TURKISH = {
    "Işık açık değil": "ışık açık değil", "Ilık su içtim": "ılık su içtim", "İstanbul çok güzel": "istanbul çok güzel",
}  # fmt: skip
SPELT: dict[tuple[str, str], dict[str, str]] = {  # transcripts, alphabet: what some labels spell
    ("turkish_upperI", "v_tr_lower"): TURKISH,
    ("turkish_noİ", "v_tr_lower"): TURKISH,
    ("turkish_upperI", "v_tr_upper"): {"İstanbul çok güzel": "İSTANBUL ÇOK GÜZEL", "kısa gün": "KISA GÜN"},
    ("german", "v_de_upper"): {"Die Straße ist lang": "DIE STRAßE IST LANG", "Über den Fluss": "ÜBER DEN FLUSS"},
    ("ukrainian", "v_uk"): {"мʼята зелена": "мʼята зелена", "обʼєкт великий": "обʼєкт великий"},
    ("one_amp", "v_low"): {"all circuits are busy now one": "all circuits are busy now one", "call AT&T now": ""},
    ("one_digit", "v_low"): {"press 1 for sales": ""},
}


@pytest.mark.parametrize(("transcripts", "alphabet"), SPELT)
def test_a_label_has_every_letter_or_its_transcript_is_left_out(transcripts: str, alphabet: str) -> None:
    tokens = json.loads((FOLDER / f"{alphabet}.json").read_text(encoding="utf-8"))
    places = {index: token for token, index in tokens.items()}
    special = frozenset(index for token, index in tokens.items() if token in ("[PAD]", "[UNK]"))
    vocabulary = Vocabulary(tuple(places[index] for index in range(len(places))), tokens["[PAD]"], "|", special)
    labeller = Labeller(vocabulary)
    with (FOLDER / f"{transcripts}.csv").open(encoding="utf-8", newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)]
    written = {text: labeller.write(text) for text in texts}
    spelt = {
        text: "".join(vocabulary.tokens[label] for label in found.labels).replace("|", " ")
        for text, found in written.items()
        if not found.lacking
    }
    expected = SPELT[transcripts, alphabet]
    assert {text: spelt.get(text, "") for text in expected if text in texts} == {
        text: label for text, label in expected.items() if text in texts
    }
    left_out = {"one_amp": "&", "one_digit": "1"}.get(transcripts, "")
    assert {text for text in texts if text not in spelt} == {text for text in texts if left_out and left_out in text}
