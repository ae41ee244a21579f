"""Models that the fine-tuning guide names, beside what a server holds."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from mondegreen.labels.ollama_server import InstalledModel, full_name

# Download sizes as https://ollama.com/library names them.
RECOMMENDED = {
    "llama3.2:3b": ("2.0 GB", "the default"),
    "llama3.1:8b": ("4.9 GB", "better, slower"),
    "llama2:7b": ("3.8 GB", "older"),
}


class ModelRow(BaseModel):
    """A model that is installed, recommended, or both. `pull` is empty for what is installed."""

    model_config = ConfigDict(frozen=True)

    name: str
    installed: bool
    size: str
    note: str
    digest: str = ""
    pull: str = ""


def model_rows(installed: Sequence[InstalledModel], used: str) -> list[ModelRow]:
    """What is installed, then what the guide recommends beside it. `used` is label.model."""
    rows = []
    for model in installed:
        notes = [RECOMMENDED[model.name][1]] if model.name in RECOMMENDED else []
        notes += ["label.model"] if model.name == full_name(used) else []
        rows.append(
            ModelRow(
                name=model.name,
                installed=True,
                size=f"{model.size / 1e9:.1f} GB",
                note=", ".join(notes),
                digest=model.digest.removeprefix("sha256:")[:12],
            )
        )
    names = {model.name for model in installed}
    missing = [name for name in dict.fromkeys([*RECOMMENDED, used]) if full_name(name) not in names]
    for name in missing:
        size, note = RECOMMENDED.get(name, ("", ""))
        notes = [*filter(None, [note]), *(["label.model"] if name == used else [])]
        pull = f"mondegreen llm pull {name}"
        rows.append(ModelRow(name=name, installed=False, size=size, note=", ".join(notes), pull=pull))
    return rows
