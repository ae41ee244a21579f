"""Makes data/, the sample of 200 real recordings. The work is in mondegreen.sample; `--help` lists the options."""

from pathlib import Path

from mondegreen.sample.__main__ import main

main(Path(__file__).resolve().parents[1])
