"""Makes data/, the sample of 200 real recordings. The work is in scripts/sample/; `--help` lists the options."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.sample.__main__ import main

main()
