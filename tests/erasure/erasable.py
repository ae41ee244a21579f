"""A project with one speaker's words and voice in every place that mondegreen writes to, beside somebody else's."""

import io
import json
import os
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import soundfile
import torch
from safetensors.torch import load_file

from mondegreen.cases.exchange import export_cases
from mondegreen.cases.snapshots import take_snapshot
from mondegreen.cases.store import DataManager
from mondegreen.labels.corrector import SuggestionCache
from mondegreen.monitoring.tracker import MetadataTracker
from mondegreen.serving.spool import Answer
from mondegreen.speech.feature_cache import FeatureCache
from mondegreen.speech.transcriber import Transcription
from tests.cases.snapshot_project import dvc_within, params

SAID = "QUICKSILVER MARMALADE OVERTURE"  # stands nowhere else
OTHER = "ORDINARY WORDS OF SOMEBODY"
VOICE = np.random.default_rng(77).uniform(-0.4, 0.4, 4_800).astype(np.float32)


def wav(path: Path, seed: int | None = None) -> Path:
    """The speaker's recording, or the other one's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = VOICE if seed is None else np.random.default_rng(seed).uniform(-0.4, 0.4, 4_800)
    soundfile.write(path, wave, 16_000, subtype="PCM_16")
    return path


def _sound() -> bytes:
    """What is in the middle of the recording's file, and in no other."""
    stream = io.BytesIO()
    soundfile.write(stream, VOICE, 16_000, format="WAV", subtype="PCM_16")
    return stream.getvalue()[400:600]


_PARTS = {"words": b"marmalade", "words ": b"MARMALADE", "voice": _sound(), "features": VOICE[100:200].tobytes()}


def traces(file: Path) -> list[str]:
    """What a file holds of the speaker: words in whatever case, the recording's bytes, its features."""
    content = file.read_bytes()
    return [name for name, part in _PARTS.items() if part in content]


def everywhere(project: Path) -> dict[str, list[str]]:
    """All files below the project that hold something, links not followed."""
    files = (Path(root) / name for root, _, names in os.walk(project) for name in names)
    return {str(path.relative_to(project)): found for path in files if path.is_file() and (found := traces(path))}


def fill(project: Path) -> dict[str, str]:
    """Puts both speakers everywhere; the working directory is the project. The ids of their cases."""
    incoming = project.parent / "incoming"
    mine, theirs = wav(incoming / "call.wav"), wav(incoming / "other.wav", 5)
    manager = DataManager("var")
    tracker = MetadataTracker("var", data_manager=manager)
    ids = {}
    for name, path, said in (("zoe", mine, SAID), ("tom", theirs, OTHER)):
        common = {"model_version": "m1", "duration": 0.3, "latency": 0.1, "is_error": True, "speaker": name}
        ids[name] = tracker.log_inference(path, said, **common, request_id=name, caller=f"c-{name}") or ""
        manager.store_correction(ids[name], f"{said.lower()} indeed", author="ann")
    with dvc_within():
        take_snapshot(manager, params(), project)
    audio = {name: manager.get_case(key).audio_sha256 for name, key in ids.items()}
    _caches(audio)
    _outputs(audio)
    _spool(mine, theirs, audio)
    for kind in ("csv", "json", "jsonl"):
        export_cases(manager, Path("var/export") / f"cases.{kind}", with_audio=True)
    manager.close()
    with sqlite3.connect("var/mondegreen.db") as source, sqlite3.connect("var/mondegreen.db.before-0004-then") as copy:
        source.backup(copy)
    return ids


def _caches(audio: dict[str, str]) -> None:
    cache = FeatureCache("e" * 64)
    for name, sha256 in audio.items():
        cache.put(sha256, torch.from_numpy(VOICE.copy()) if name == "zoe" else torch.zeros(9))
    cache.flush()
    remembered = [{"id": audio["zoe"], "text": SAID}, {"id": audio["tom"], "text": OTHER}]
    _lines(Path("var/hypotheses/m1.jsonl"), remembered)
    answers = SuggestionCache(Path("var/llm/answers.db"))
    answers.store_answer("k", json.dumps({"text": SAID}))
    answers.close()


def _outputs(audio: dict[str, str]) -> None:
    rows = []
    for name, said in (("zoe", SAID), ("tom", OTHER)):
        path = f"data/failed_cases/audio/{audio[name]}.wav"
        rows.append({"id": audio[name][:16], "path": path, "sha256": audio[name], "text": said})
    _lines(Path("build/prepare/manifest.jsonl"), rows)
    _lines(Path("build/label/labels.jsonl"), [{"id": row["id"], "text": row["text"]} for row in rows])
    page = f'<p class="path">{rows[0]["path"]}</p><p>{SAID}</p>'
    runs = Path("mlruns/artifacts/run/artifacts")
    for place in (Path("build/validate"), runs / "validate"):
        place.mkdir(parents=True)
        (place / "report.html").write_text(page)
        (place / "other.html").write_text(f"<p>{OTHER}</p>")
        (place / "verdict.json").write_text('{"outcome": "pass"}')
    (runs / "label").mkdir()
    (runs / "label" / "audit.json").write_text(
        json.dumps({"wer": 0.1, "worst": rows, "named": [f"{rows[0]['id']}: {SAID}"]})
    )
    Path("var/monitor.html").write_text(f"<b>quicksilver</b> marmalade, <i>overture</i> &amp; more {rows[1]['id']}")
    Path("var/round.log").write_text(f"left out: {rows[0]['path']}\nheard {SAID.lower()}\nall else is well\n")


def _spool(mine: Path, theirs: Path, audio: dict[str, str]) -> None:
    """Of a server that was killed, and what the database refused."""
    dead, refused = Path("var/serve/dead"), Path("var/serve/refused")
    refused.mkdir(parents=True)
    lines = []
    for name, source, said in (("zoe", mine, SAID), ("tom", theirs, OTHER)):
        place = dead / "audio" / f"r-{name}"
        place.mkdir(parents=True)
        shutil.copy(source, place / "call.wav")
        shutil.copy(source, refused / f"r-{name}-call.wav")
        heard = Transcription(
            path=str(place / "call.wav"), text=said, confidence=0.5, duration=0.3, words=[], nbest=[],
            real_time_factor=0.1, model="m1",
        )  # fmt: skip
        lines.append(
            Answer(
                request_id=f"r-{name}", at=datetime.now(UTC), served="stt/1", audio_sha256=audio[name],
                transcription=heard, speaker=name, caller=f"c-{name}",
            ).model_dump_json()
        )  # fmt: skip
    for file in (dead / "one.ready", refused / "two.jsonl"):
        file.write_text("\n".join(lines) + "\n")
    unanswered = dead / "audio" / "nobody"
    unanswered.mkdir()
    shutil.copy(mine, unanswered / "late.wav")


def _lines(path: Path, rows: list[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def features() -> list[str]:
    """Under which digests the feature cache has something."""
    return [key for shard in Path("var/features").rglob("*.safetensors") for key in load_file(shard)]
