"""The stages of dvc.yaml: `python -m mondegreen.stages.NAME`."""

import sys

if sys.argv[0] == "-m":  # a stage is being started: it loads its libraries next
    from mondegreen.progress import end_plainly

    end_plainly("a stage; `dvc repro` goes on with it")
