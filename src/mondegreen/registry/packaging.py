"""A model folder as an MLflow pyfunc model from code, and the model folder within such a package."""

import shutil
import tempfile
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import mlflow
import yaml
from packaging.requirements import Requirement

import mondegreen
from mondegreen.errors import RegistryError

_SCRIPT = Path(__file__).with_name("pyfunc_model.py")
_CODE = Path(mondegreen.__file__).parent
_NOT_FOR_SERVING = {"dvc", "matplotlib", "jinja2"}


def log_model(model_folder: Path, card: str, metadata: dict[str, str]) -> str:
    """Logs a model folder into MLflow's active run.

    The package holds the folder (merged weights, and the adapter in its subfolder), the model card and mondegreen's
    own code, so that it loads where mondegreen is not installed.

    Args:
        model_folder: config.json, tokenizer and safetensors, as `BaselineSTTModel` loads them.
        card: Markdown.
        metadata: goes into the MLmodel file.

    Returns:
        The `models:/m-…` URI of the logged model.
    """
    with tempfile.TemporaryDirectory() as scratch:
        readme = Path(scratch, "README.md")
        readme.write_text(card, encoding="utf-8")
        code = shutil.copytree(_CODE, Path(scratch, _CODE.name), ignore=shutil.ignore_patterns("__pycache__"))
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(_SCRIPT),
            artifacts={"model": str(model_folder), "card": str(readme)},
            code_paths=[str(code)],
            pip_requirements=serving_requirements(),  # given, because MLflow would load the model to guess them
            metadata=metadata,
        )
    return str(logged.model_uri)


def serving_requirements() -> list[str]:
    """mondegreen's runtime dependencies, pinned to the versions that made the model."""
    needed = [Requirement(line) for line in requires("mondegreen") or []]
    names = [r.name for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    # Without the local part of a version such as 2.13.0+cpu, which no package index serves.
    return [f"{name}=={version(name).split('+')[0]}" for name in names if name not in _NOT_FOR_SERVING]


def packaged_model(package: Path, uri: str) -> Path:
    """The folder with the weights in a downloaded package."""
    try:
        described: dict[str, Any] = yaml.safe_load((package / "MLmodel").read_text(encoding="utf-8"))
        artifacts = described["flavors"].get("python_function", {}).get("artifacts") or {}
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise RegistryError(
            f"{uri}: {package / 'MLmodel'} cannot be read ({error}).", "Run `mondegreen models verify --restore`."
        ) from error
    folder = package / str(artifacts.get("model", {}).get("path", "missing"))
    if not (folder / "config.json").is_file():
        raise RegistryError(f"{uri} holds no speech model.", "Name a model that `dvc repro` registered.")
    return folder
