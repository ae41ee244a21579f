import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from mondegreen.cli.main import app
from mondegreen.files import write_jsonl
from tests.scoring.examples import hypothesis, random_sides, utterance
from tests.tiny import save_model

UTTERANCES, OLD, NEW = random_sides(1, speakers=14)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is no project."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trn(tmp_path: Path) -> Path:
    """What was said and what two recognisers heard, as .trn files."""
    for name, texts in (
        ("ref", [u.reference for u in UTTERANCES]),
        ("a", [h.text for h in OLD]),
        ("b", [h.text for h in NEW]),
    ):
        keys = [f"{row.speaker}-{row.id}" for row in UTTERANCES]
        lines = [f"{text} ({key})\n" for text, key in zip(texts, keys, strict=True)]
        (tmp_path / f"{name}.trn").write_text("".join(lines))
    return tmp_path


def compare(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["compare", *map(str, arguments)], catch_exceptions=False)


def facts(*arguments: object) -> dict[str, Any]:
    result = compare(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_trn_files_of_any_two_recognisers(trn: Path) -> None:
    found = facts("a.trn", "b.trn", "--references", "ref.trn")
    assert (found["unit"], found["clusters"], found["utterances"]) == ("speaker", 14, len(UTTERANCES))
    assert found["a"]["wer"]["value"] > found["b"]["wer"]["value"] and found["difference"]["value"] > 0
    assert found["difference"]["low"] < found["difference"]["value"] < found["difference"]["high"]
    assert [test["name"] for test in found["tests"]] == [
        "sign-flip permutation", "cluster-robust t", "Wilcoxon signed rank", "MAPSSWE",
    ]  # fmt: skip
    assert all(0 < test["p_value"] <= 1 for test in found["tests"])
    assert {row["kind"] for row in found["slices"]} == {"speaker", "word class"}
    assert len(found["better_by_b"]) == 5 and not list(trn.glob("var"))


def test_the_same_utterances_in_every_format_give_the_same_numbers(trn: Path) -> None:
    expected = facts("a.trn", "b.trn", "-r", "ref.trn")
    write_jsonl(trn / "manifest.jsonl", UTTERANCES)
    write_jsonl(trn / "a.jsonl", OLD)
    for name, rows in (("ref", [u.reference for u in UTTERANCES]), ("b", [h.text for h in NEW])):
        with (trn / f"{name}.csv").open("w", newline="") as stream:
            out = csv.writer(stream)
            out.writerow(["id", "text", "speaker"])
            out.writerows(zip([u.id for u in UTTERANCES], rows, [u.speaker for u in UTTERANCES], strict=True))
    stm = "".join(f"{row.id} 1 {row.speaker} 0 {row.duration} {row.reference}\n" for row in UTTERANCES)
    (trn / "ref.stm").write_text(stm)
    heard = zip(UTTERANCES, OLD, strict=True)
    (trn / "a.stm").write_text("".join(f"{row.id} 1 x 0 {row.duration} {heard.text}\n" for row, heard in heard))
    for references, a, b in (("manifest.jsonl", "a.jsonl", "b.csv"), ("ref.csv", "a.jsonl", "b.csv")):
        found = facts(a, b, "-r", references)
        for key in ("difference", "tests", "clusters", "words"):
            assert found[key] == expected[key], (references, key)
        assert found["a"]["wer"] == expected["a"]["wer"]
    found = facts("a.stm", "a.stm", "-r", "ref.stm")
    assert found["a"]["wer"] == expected["a"]["wer"] and found["difference"]["value"] == 0


def test_the_unit_can_be_chosen_and_few_clusters_are_warned_of(trn: Path) -> None:
    found = facts("a.trn", "b.trn", "-r", "ref.trn")
    assert found["unit"] == "speaker" and found["few_clusters"] == ""
    each = facts("a.trn", "b.trn", "-r", "ref.trn", "--unit", "utterance")
    assert (each["unit"], each["clusters"]) == ("utterance", each["utterances"])
    assert "about these 14 speakers only" in each["few_clusters"]
    lines = (trn / "ref.trn").read_text().splitlines(keepends=True)
    few = [line for line in lines if any(f"(s0{n}-" in line for n in range(3))]
    for name in ("a", "b", "ref"):
        every = (trn / f"{name}.trn").read_text().splitlines(keepends=True)
        keys = {line.split("(")[-1] for line in few}
        (trn / f"{name}.trn").write_text("".join(line for line in every if line.split("(")[-1] in keys))
    ruled = compare("a.trn", "b.trn", "-r", "ref.trn")
    assert "warning     the unit is the utterance: intervals and tests are about these 3 speakers only" in ruled.stdout
    chosen = compare("a.trn", "b.trn", "-r", "ref.trn", "--unit", "speaker")
    assert "warning     3 speakers are fewer than the 12" in chosen.stdout
    (trn / "ref.csv").write_text("id,text\n" + "".join(f"{n},hold the line\n" for n in range(4)))
    (trn / "a.csv").write_text("id,text\n0,hold a line\n1,hold\n2,old line\n3,hold the\n")
    four = facts("a.csv", "ref.csv", "-r", "ref.csv")  # too few for any of it
    assert (four["difference"]["low"], four["effect_size"], four["minimum_detectable_effect"]) == (None, None, None)
    assert {test["p_value"] for test in four["tests"]} == {None}
    refused = compare("ref.csv", "ref.csv", "-r", "ref.csv", "--unit", "speaker")
    assert refused.exit_code == 2 and "4 of 4 utterances name none" in refused.stderr
    same = facts("ref.csv", "ref.csv", "-r", "ref.csv")  # four utterances: rates, and nothing about their chance
    assert same["a"]["wer"] == {"value": 0.0, "low": None, "high": None} and same["difference"]["low"] is None


def test_a_mapping_file_is_applied_to_what_was_said_and_to_what_was_heard(elsewhere: Path) -> None:
    Path("ref.csv").write_text("id,text\n" + "".join(f"{n},i'm on the colour line uh\n" for n in range(6)))
    Path("a.csv").write_text("id,text\n" + "".join(f"{n},I am on the color line\n" for n in range(6)))
    Path("b.csv").write_text("id,text\n" + "".join(f"{n},I'm on the color line um\n" for n in range(6)))
    Path("x.glm").write_text(
        "* format = 'NIST1'\nI'M => {I'M / I AM} / [ ] __ [ ]\nUH => / [ ] __ [ ]\nUM => / __ [ ]\nCOLOUR => COLOR\n"
    )
    assert facts("a.csv", "b.csv", "-r", "ref.csv")["a"]["wer"]["value"] > 0.5
    found = facts("a.csv", "b.csv", "-r", "ref.csv", "--glm", "x.glm")
    assert (found["a"]["wer"]["value"], found["b"]["wer"]["value"]) == (0, 0)
    Path("x.glm").write_text("nothing\n")
    wrong = compare("a.csv", "b.csv", "-r", "ref.csv", "--glm", "x.glm")
    assert wrong.exit_code == 2 and "x.glm:1: 'nothing' is no rule" in wrong.stderr


def test_words_are_mapped_or_left_out_on_both_sides_whatever_stands_behind_them(elsewhere: Path) -> None:
    Path("ref.csv").write_text('id,text\n1,"Okay, uh, hold the line."\n')
    Path("a.csv").write_text("id,text\n1,ok hold the line\n")
    assert facts("a.csv", "a.csv", "-r", "ref.csv")["a"]["metrics"]["wer"]["errors"] == 2
    mapped = facts("a.csv", "a.csv", "-r", "ref.csv", "--map", "okay=OK", "--map", "uh=")
    assert (mapped["a"]["metrics"]["wer"]["errors"], mapped["words"]) == (0, 4)
    refused = compare("a.csv", "a.csv", "-r", "ref.csv", "--map", "okay")
    assert refused.exit_code == 2 and "uh= to leave a word out" in refused.stderr


@pytest.mark.parametrize(
    ("said", "heard", "rule"),
    [
        ('"Okay," he said', "ok he said", "okay=ok"),
        ("he said (uh) okay”", "he said ok", "okay=ok"),
        ("¿Okay? [okay] okay's okay-ish", "ok ok okay's ok ish", "okay=ok"),
        ("I can't but can", "I can't but could", "can=could"),
        ("‘Okay’ you don’t", "ok you do not", "don't=do not"),
        ("我的书很好", "我书很好", "的="),
    ],
)
def test_a_mapped_word_is_a_whole_word_whatever_signs_stand_around_it(
    elsewhere: Path, said: str, heard: str, rule: str
) -> None:
    for name, text in (("ref", said), ("a", heard)):
        with Path(f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("id", "text"), ("1", text)])
    found = facts("a.csv", "a.csv", "-r", "ref.csv", "--map", rule, "--map", "uh=", "--map", "‘okay’=ok")
    assert found["a"]["metrics"]["wer"]["errors"] == 0
    refused = compare("a.csv", "a.csv", "-r", "ref.csv", "--map", "okay={ok")
    assert refused.exit_code == 2 and "--map okay={ok: a { has no }" in refused.stderr


@pytest.mark.parametrize("normalizer", ["spoken", "english"])
def test_a_rule_with_a_choice_makes_no_choice_of_a_tables_own_signs(elsewhere: Path, normalizer: str) -> None:
    Path("ref.csv").write_text("id,text\n1,we met (again) yesterday\n2,a { brace and/or @ home }\n3,{ alone\n")
    Path("a.csv").write_text("id,text\n1,we met yesterday\n2,a {brace / x} and or home\n3,alone\n")
    Path("x.glm").write_text("I'M => {I'M / I AM}\n")
    plain, ruled = (
        facts("a.csv", "a.csv", "-r", "ref.csv", "--normalizer", normalizer, *glm) for glm in ((), ("--glm", "x.glm"))
    )
    assert ruled["a"]["metrics"]["wer"] == plain["a"]["metrics"]["wer"]
    Path("ref.trn").write_text("we met (again) yesterday (1)\n")
    Path("a.trn").write_text("we met yesterday (1)\n")
    nist = facts("a.trn", "a.trn", "-r", "ref.trn", "--map", "again=once more", "--glm", "x.glm")
    assert nist["a"]["metrics"]["wer"]["errors"] == 0  # what need not be heard need not be heard as two words


def test_an_export_holds_texts_as_they_were_before_a_mapping(elsewhere: Path) -> None:
    Path("ref.csv").write_text('id,text\n1,"Okay, uh, hold the line."\n')
    Path("a.csv").write_text("id,text\n1,ok (uh) HOLD\n")
    done = compare("a.csv", "ref.csv", "-r", "ref.csv", "--map", "okay=ok", "--map", "uh=", "--export", "out.csv")
    assert done.exit_code == 0
    with Path("out.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert (row["said"], row["a"], row["b"]) == ("Okay, uh, hold the line.", "ok (uh) HOLD", "Okay, uh, hold the line.")
    assert (row["words"], row["errors_a"], row["errors_b"]) == ("4", "2", "0")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--export", "out.pdf"], "Name a .csv or an .html"),
        (["--export", "folder.csv"], "folder.csv cannot be written: it is a folder"),
        (["--export", "ref.csv/out.csv"], "is no folder that may be written to"),
        (["--terms", "folder.csv"], "folder.csv cannot be read: Is a directory"),
        (["--glm", "folder.csv"], "folder.csv cannot be read: Is a directory"),
        (["--terms", "gone.txt"], "gone.txt does not exist"),
        (["--map", "okay"], "--map okay maps nothing"),
    ],
)
def test_what_is_wrong_with_other_files_is_said_before_a_model_works(
    elsewhere: Path, options: list[str], said: str
) -> None:
    Path("ref.csv").write_text("path,text\na.wav,one two\n")
    Path("folder.csv").mkdir()
    refused = compare("no-such-model", "no-such-model", "-r", "ref.csv", *options)  # whose recording is not there
    assert refused.exit_code == 2 and said in refused.stderr


@pytest.mark.parametrize("confidence", ["93.5", "-0.23"])
def test_a_confidence_that_is_no_part_of_1_is_named_with_its_line(elsewhere: Path, confidence: str) -> None:
    Path("ref.csv").write_text("id,text\nu1,one\n")
    Path("heard.jsonl").write_text(f'{{"id": "u1", "text": "one", "confidence": {confidence}}}\n')
    refused = compare("heard.jsonl", "heard.jsonl", "-r", "ref.csv")
    assert refused.exit_code == 2 and "heard.jsonl:1: field confidence: " in refused.stderr
    assert "What now: Write it as a part of 1" in refused.stderr


def test_a_transcript_that_holds_both_sides_is_scored_against_what_was_said(elsewhere: Path) -> None:
    Path("ref.jsonl").write_text('{"id": 1, "reference": "hello world again"}\n')
    Path("a.jsonl").write_text('{"id": 1, "reference": "hello world again", "text": "hello word"}\n')
    found = facts("a.jsonl", "a.jsonl", "-r", "ref.jsonl")
    assert found["a"]["metrics"]["wer"]["errors"] == 2
    alone = compare("ref.jsonl", "a.jsonl", "-r", "ref.jsonl")
    assert alone.exit_code == 2 and "ref.jsonl:1: it has a reference and no hypothesis" in alone.stderr


@pytest.mark.parametrize("said", ["a b c x y", "(a) b c x y", "a b c x y @"])  # of a table such signs are punctuation
def test_sclites_weights_count_more_errors_where_more_words_are_right(elsewhere: Path, said: str) -> None:
    Path("ref.csv").write_text(f"id,text\n1,{said}\n")
    Path("a.csv").write_text("id,text\n1,x y d e f\n")
    assert "A 5 of 5: 5 substituted, 0 deleted, 0 inserted\n" in compare("a.csv", "a.csv", "-r", "ref.csv").stdout
    done = compare("a.csv", "a.csv", "-r", "ref.csv", "--sclite")
    assert "A 6 of 5: 0 substituted, 3 deleted, 3 inserted (sclite's alignment)" in done.stdout


def test_a_comparison_can_be_taken_along_as_a_table_and_as_a_page_to_listen_to(elsewhere: Path) -> None:
    for name in ("one", "two"):
        soundfile.write(f"{name}.wav", np.random.default_rng(0).normal(0, 0.1, 8_000), 16_000)
    said = {"one.wav": "hold the line", "two.wav": "<b>press & one"}
    for name, texts in (("ref", said), ("a", said), ("b", {"one.wav": "hold lime", "two.wav": "<b>press & one"})):
        with Path(f"{name}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([("path", "text"), *texts.items()])
    assert compare("a.csv", "b.csv", "-r", "ref.csv", "--export", "out/table.csv").exit_code == 0
    with Path("out/table.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["errors_a"], row["errors_b"], row["said"]) for row in rows] == [
        ("0", "2", "hold the line"), ("0", "0", "<b>press & one"),
    ]  # fmt: skip
    shown = compare("a.csv", "b.csv", "-r", "ref.csv", "--export", "out/page.html").stdout
    page = Path("out/page.html").read_text()
    assert "1 of 2 utterances" in page and "<b>lime</b>" in page and 'src="data:audio/mpeg;base64,' in page
    assert "<b>press" not in page and "http" not in page and shown.splitlines()[3].split()[0] in page
    refused = compare("a.csv", "b.csv", "-r", "ref.csv", "--export", "out/page.pdf")
    assert refused.exit_code == 2 and "Name a .csv or an .html" in refused.stderr


def test_terms_and_the_other_normaliser_stand_beside_the_rates(trn: Path) -> None:
    word = UTTERANCES[0].reference.split()[0]
    (trn / "terms.txt").write_text(f"{word}\nnobody says this\n")
    found = facts("a.trn", "b.trn", "-r", "ref.trn", "--terms", "terms.txt")
    assert found["terms"]["said"] >= 1 and found["terms"]["never"] == 1
    assert found["terms"]["rows"][0]["term"] == word and found["terms"]["interval"]
    assert found["spellings"]["normalizer"].startswith("english") and found["spellings"]["a"] > 0
    shown = compare("a.trn", "b.trn", "-r", "ref.trn", "--terms", "terms.txt").stdout
    assert "terms       error rate A" in shown and "english-whisper" in shown


def test_a_table_for_people(trn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = compare("a.trn", "b.trn", "-r", "ref.trn", "--show", 2)
    assert result.exit_code == 0
    for text in ("all", "speaker s", "content", "14 speakers", "Hedges' g", "sign-flip", "MAPSSWE", "80 % power"):
        assert text in result.stdout
    assert result.stdout.count(": errors ") == 4 and "B makes fewer errors" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80 and "…" not in result.stdout


def test_the_worse_model_as_b_is_still_exit_code_0(trn: Path) -> None:
    assert compare("b.trn", "a.trn", "-r", "ref.trn").exit_code == 0


def test_ids_that_do_not_match_name_file_and_line(trn: Path) -> None:
    lines = (trn / "b.trn").read_text().splitlines(keepends=True)
    (trn / "b.trn").write_text("".join(lines[:6] + lines[7:]))
    result = compare("a.trn", "b.trn", "-r", "ref.trn")
    assert result.exit_code == 2 and "ref.trn:7: 's06-u006' has no hypothesis in b.trn" in result.stderr
    (trn / "b.trn").write_text("".join([*lines, "more (s99-x)\n"]))
    result = compare("a.trn", "b.trn", "-r", "ref.trn")
    assert result.exit_code == 2 and f"b.trn:{len(lines) + 1}: 's99-x' is not in ref.trn" in result.stderr


def test_what_is_missing_is_said(trn: Path) -> None:
    assert "--references" in compare("a.trn", "b.trn").stderr
    missing = compare("a.trn", "c.trn", "-r", "ref.trn")
    assert missing.exit_code == 2 and "c.trn does not exist" in missing.stderr
    (trn / "empty.trn").write_text("".join(f"({row.speaker}-{row.id})\n" for row in UTTERANCES))
    nothing = compare("a.trn", "b.trn", "-r", "empty.trn")
    assert nothing.exit_code == 2 and "No utterance of empty.trn" in nothing.stderr


def test_references_by_a_machine_are_pointed_out(trn: Path) -> None:
    rows = [f"{row.id},{row.reference},{'llm' if number < 3 else ''}\n" for number, row in enumerate(UTTERANCES)]
    (trn / "ref.csv").write_text("id,text,method\n" + "".join(rows))
    write_jsonl(trn / "a.jsonl", OLD)
    result = compare("a.jsonl", "a.jsonl", "-r", "ref.csv")
    assert result.exit_code == 0 and "3 REFERENCES WERE WRITTEN BY A MACHINE" in result.stdout


def test_two_models_hear_the_recordings_and_leave_nothing_behind(elsewhere: Path) -> None:
    models = [save_model(elsewhere / f"model{seed}", seed=seed) for seed in (0, 1)]
    noise = np.random.default_rng(0)
    (elsewhere / "calls").mkdir()
    for name in "ab":
        soundfile.write(elsewhere / f"calls/{name}.wav", noise.uniform(-0.3, 0.3, 9_000), 16_000)
    (elsewhere / "calls/references.csv").write_text("path,text\na.wav,one two\nb.wav,three\n")
    before = {path.name for path in elsewhere.iterdir()}
    found = facts(*models, "-r", "calls/references.csv")
    assert (found["utterances"], found["words"], found["unit"]) == (2, 3, "utterance")
    assert found["a"]["name"] == str(models[0]) and {path.name for path in elsewhere.iterdir()} == before
    (elsewhere / "calls/references.csv").write_text("path,text\na.wav,one two\nc.wav,three\n")
    result = compare(*models, "-r", "calls/references.csv")
    assert result.exit_code == 2 and "references.csv:3: there is no recording calls/c.wav" in result.stderr


def test_in_a_project_the_manifest_is_the_reference_and_transcripts_are_kept(elsewhere: Path) -> None:
    model = save_model(elsewhere / "model")
    (elsewhere / "params.yaml").write_text("validate: {min_clusters: 2}\n")
    noise = np.random.default_rng(0)
    rows = []
    for number, split in enumerate(("test", "test", "train")):
        soundfile.write(elsewhere / f"{number}.wav", noise.uniform(-0.3, 0.3, 9_000), 16_000)
        rows.append(utterance(f"u{number}", path=f"{number}.wav", split=split))
    (elsewhere / "build/prepare").mkdir(parents=True)
    write_jsonl(elsewhere / "build/prepare/manifest.jsonl", rows)
    write_jsonl(elsewhere / "heard.jsonl", [hypothesis(row.id) for row in rows])
    found = facts("heard.jsonl", model)
    assert (found["utterances"], found["unit"], found["a"]["wer"]["value"]) == (2, "recording", 0)
    assert len(list((elsewhere / "var/hypotheses").glob("*.jsonl"))) == 1
    assert facts("heard.jsonl", model, "--part", "all")["utterances"] == 3


def test_snr_and_durations_are_taken_from_where_they_are_known(elsewhere: Path) -> None:
    noise = np.random.default_rng(0)
    for name, loud in (("loud", 1.0), ("steady", 0.0)):
        beat = np.where(np.arange(32_000) // 4_000 % 2, 1, 0.001) if loud else 1
        soundfile.write(elsewhere / f"{name}.wav", noise.uniform(-0.3, 0.3, 32_000) * beat, 16_000)
    (elsewhere / "ref.csv").write_text("path,text\nloud.wav,one two\nsteady.wav,three\ngone.wav,four\n")
    heard = [
        {"path": f"{name}.wav", "text": "one", "duration": 1 + 2 * n}
        for n, name in enumerate(("loud", "steady", "gone"))
    ]
    (elsewhere / "h.jsonl").write_text("".join(json.dumps(row) + "\n" for row in heard))
    rows = facts("h.jsonl", "h.jsonl", "-r", "ref.csv", "--snr")["slices"]
    found = {(row["kind"], row["name"]): row["words"] for row in rows if row["kind"] in ("snr", "duration")}
    assert found == {
        ("snr", "under 5 dB"): 1, ("snr", "30 dB and more"): 2,
        ("duration", "under 2 s"): 2, ("duration", "2 to 5 s"): 1, ("duration", "5 to 10 s"): 1,
    }  # fmt: skip
    assert not [row for row in facts("h.jsonl", "h.jsonl", "-r", "ref.csv")["slices"] if row["kind"] == "snr"]


def test_a_script_without_blanks_has_characters_for_its_headline(elsewhere: Path) -> None:
    for name, text in (("ref", "今天天气很好"), ("a", "今天天汽很好"), ("b", "今天，天气很好。")):
        Path(f"{name}.csv").write_text(f"id,text\n1,{text}\n", encoding="utf-8")
    shown = compare("a.csv", "b.csv", "-r", "ref.csv").stdout
    assert "Character error rates" in shown and "16.7 %" in shown and "WER" not in shown
    assert shown.count("CER") == 1 and "Word error rates" not in shown
    found = facts("a.csv", "b.csv", "-r", "ref.csv")
    assert (found["words"], found["a"]["wer"]["value"], found["normalizer"]) == (6, 1 / 6, "spoken-3, by character")


@pytest.mark.parametrize("name", ["out.csv", "out.html"])
def test_half_a_character_in_a_json_line_is_an_escape_in_what_is_exported(name: str, tmp_path: Path) -> None:
    (tmp_path / "ref.jsonl").write_text('{"id": "caf\\udce9", "reference": "one \\ud800 two"}\n')
    (tmp_path / "hyp.jsonl").write_text('{"id": "caf\\udce9", "hypothesis": "one three"}\n')
    (tmp_path / "other.jsonl").write_text('{"id": "caf\\udce9", "hypothesis": "one two"}\n')
    result = compare("hyp.jsonl", "other.jsonl", "-r", "ref.jsonl", "--export", name)
    assert result.exit_code == 0 and "one \\ud800 two" in (tmp_path / name).read_text()
