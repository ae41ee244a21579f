"""The model registry: MLflow's runs and versions, who holds which alias, and the ledger of it.

What MLflow reads when it is imported is set here, before any module of this folder can import it: tracking experiments
on this machine must not report to another one.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# The address of each run that ends at a server: stdout is for answers, which scripts read.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
