"""README's "Your own recordings", typed as it stands there, for twelve speakers with a dialect of their own.

Every letter of their language is a tone (tests/speech/tones.py), which a tiny model learns in seconds; it stands in for
the starter. Their dialect says one letter as the model never heard it. What README says is what runs.
"""

import csv
import json
import random
import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from mondegreen.config import Params, TrainParams
from mondegreen.files import read_json
from mondegreen.records import Example, RegressionResults
from mondegreen.scoring.verdict import Verdict
from mondegreen.speech.finetuning import finetune
from mondegreen.speech.model import load_model
from tests.end_to_end.project import ROOT, Project
from tests.speech.tones import tone_example
from tests.tiny import save_model

pytestmark = pytest.mark.xdist_group("own_recordings")

SPEAKERS, CLIPS, WORDS = 12, 10, 5  # clips of each speaker, words of each clip
_DROPOUTS = (
    *("layerdrop", "hidden_dropout", "attention_dropout"),
    *("feat_proj_dropout", "final_dropout", "activation_dropout"),
)
# What a tiny model needs to learn as much as a large one does with the defaults.
_SETTINGS = {r"^  learning_rate:[^#\n]*": "  learning_rate: 0.01 ", r"^  batch_seconds: 30.0": "  batch_seconds: 6.0"}


def typed(section: str) -> list[list[str]]:
    """The bash blocks of a section of README.md: each a list of commands."""
    text = re.search(rf"^## {section}\n(.*?)^## ", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert text, section
    blocks = re.findall(r"^```bash\n(.*?)^```", text[1], re.M | re.S)
    return [[line for line in block.splitlines() if shlex.split(line, comments=True)] for block in blocks]


TAKE_IN, GUARDED, UNGUARDED, JUDGE, NEXT = typed("Your own recordings")


class Speech:
    """Recordings of texts that nobody said before, drawn one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._rng, self._number = folder, random.Random(0), 0

    def example(self, dialect: Mapping[str, str], words: int = WORDS) -> Example:
        drawn = ("".join(self._rng.choice("ABCDEF") for _ in range(self._rng.randint(1, 3))) for _ in range(words))
        text = " ".join(drawn)
        self._number += 1
        return tone_example(self.folder, text.translate(str.maketrans(dict(dialect))), seed=self._number, text=text)

    def manifest(self, path: Path, dialect: Mapping[str, str]) -> None:
        """A NeMo manifest of twelve speakers."""
        rows = []
        for speaker in range(SPEAKERS):
            for example in (self.example(dialect) for _ in range(CLIPS)):
                row = {"audio_filepath": example.path, "text": example.text, "duration": example.duration}
                rows.append(row | {"speaker": f"{path.stem}-{speaker}"})
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def known(self, folder: Path, clips: int, words: int) -> None:
        """Recordings without a dialect, which the model hears well, and references.csv beside them."""
        folder.mkdir()
        rows = [("path", "text")]
        for example in (self.example({}, words) for _ in range(clips)):
            shutil.copy(example.path, folder / f"{example.id}.wav")
            rows.append((f"{example.id}.wav", example.text))
        with (folder / "references.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows(rows)


def clone(work: Path) -> Project:
    """A clone in which the starter is a model of tones, and the files that the user brings."""
    (work / "clone").mkdir()
    project, speech = Project(work / "clone"), Speech(work / "speech")
    for name in ("data.dvc", "dvc.lock"):  # as a clone has them
        shutil.copy(ROOT / name, project.folder / name)
    (project.folder / "data").mkdir()
    (project.folder / "data/README.md").write_text("the sample's")
    shutil.rmtree(project.folder / "starter/model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        _teach(project.folder / "starter/model", speech, work)
    speech.manifest(project.folder / "train.json", {"F": "G"})
    speech.manifest(project.folder / "more.json", {"F": "G", "D": "H"})
    speech.known(project.folder / "general", 103, words=20)
    speech.known(project.folder / "refunds", 12, words=20)
    params = project.folder / "params.yaml"
    text = params.read_text()
    for default, own in _SETTINGS.items():
        text, times = re.subn(default, own, text, flags=re.M)
        assert times == 1, default
    params.write_text(text)
    project.git("config", "user.name", "Test")
    project.git("config", "user.email", "test@example.org")
    project.commit("a user's clone")
    return project


def _teach(folder: Path, speech: Speech, work: Path) -> None:
    """Saves a model that hears tones without a dialect, taught from random weights."""
    made = [speech.example({}) for _ in range(40)]
    start = load_model(str(save_model(work / "start", num_hidden_layers=1, **dict.fromkeys(_DROPOUTS, 0.0))))
    knobs = {"method": "full", "epochs": 25, "learning_rate": 4e-3, "batch_seconds": 6.0, "mask_time_prob": 0.0}
    params = Params(train=TrainParams.model_validate({**knobs, "patience": 25, "merge_weights": (1.0,)}))
    taught = finetune(start, made[:30], made[30:], [], params, folder, work / "checkpoints")
    assert taught.dev_wer <= 0.1


def _type(project: Project, *blocks: list[str]) -> str:
    """What the commands print, in one line; each must succeed."""
    said = (project.run("bash", "-c", line).stdout for block in blocks for line in block)
    return " ".join(" ".join(said).split())


def _judged(project: Project) -> tuple[Verdict, RegressionResults]:
    """The verdict, which must be a pass of what is in production, and the run of the suites."""
    build = project.folder / "build"
    verdict = Verdict.read(build / "validate/verdict.json")
    assert verdict.outcome == "pass", verdict.reason
    return verdict, read_json(build / "regress/results.json", RegressionResults)


def _champion(project: Project) -> object:
    return json.loads(project.run("mondegreen", "status", "--json").stdout)["deployer"]["active_version"]


def _next_round_and_back(project: Project) -> None:
    assert _champion(project) == 1
    said = _type(project, NEXT)
    _judged(project)
    assert "version 2 is Production/@champion" in said
    assert "version 1 is Production/@champion again, version 2 was taken back" in said
    assert _champion(project) == 1


@pytest.fixture(scope="module")
def recordings_alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """After the first round without retention and suites, and what it printed."""
    project = clone(tmp_path_factory.mktemp("user"))
    return project, _type(project, TAKE_IN, UNGUARDED, JUDGE)


def test_recordings_alone_reach_a_pass_and_production(recordings_alone: tuple[Project, str]) -> None:
    project, said = recordings_alone
    verdict, results = _judged(project)
    assert "FORGETTING WAS NOT MEASURED" in verdict.claim and "FORGETTING WAS NOT MEASURED" in said
    assert not results.registered and "no suites are registered" in said
    assert _champion(project) == 1
    nowhere = project.run("mondegreen", "models", "rollback", check=False)
    assert nowhere.returncode == 1 and "What now" in nowhere.stderr


@pytest.mark.slow
def test_recordings_alone_reach_the_next_round_and_the_way_back(recordings_alone: tuple[Project, str]) -> None:
    _next_round_and_back(recordings_alone[0])


@pytest.mark.slow
def test_with_retention_and_suites_they_go_the_same_way(tmp_path: Path) -> None:
    project = clone(tmp_path)
    _type(project, TAKE_IN, GUARDED, JUDGE)
    verdict, results = _judged(project)
    assert verdict.retention.outcome == "pass" and "NOT MEASURED" not in verdict.claim
    assert results.passed and [suite.name for suite in results.suites] == ["refunds"]
    _next_round_and_back(project)
