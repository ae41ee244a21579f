"""Writes params.schema.json, by which editors check params.yaml: run it after a change of config.py or params.yaml."""

import json
from pathlib import Path

from mondegreen.files import write_text
from mondegreen.project.upgrading import schema

ROOT = Path(__file__).resolve().parents[1]
write_text(ROOT / "params.schema.json", json.dumps(schema((ROOT / "params.yaml").read_text()), indent=2) + "\n")
