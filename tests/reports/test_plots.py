"""The CSV files for `dvc plots`, and the lines of a tree that nobody knows the shape of."""

import csv
from dataclasses import replace
from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from mondegreen.reports.outputs import StageOutputs
from mondegreen.reports.page import facts
from mondegreen.reports.validation import find, write_plots

ROOT = Path(__file__).resolve().parents[2]


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_every_plot_holds_the_numbers_of_the_report(outputs: StageOutputs, tmp_path: Path) -> None:
    found = find(outputs)
    write_plots(tmp_path, found)
    slices = {(row["slice"], row["model"]): float(row["wer"]) for row in rows(tmp_path / "wer_by_slice.csv")}
    assert slices["test", "baseline"] == found.verdict.slices["test"].baseline.wer.rate
    assert sum(int(row["samples"]) for row in rows(tmp_path / "bootstrap.csv")) == 10_000
    scatter = rows(tmp_path / "utterances.csv")
    assert len(scatter) == 30 and {row["condition"] for row in scatter} == {"clean", "noisy"}
    assert [row["dev_wer"] for row in rows(tmp_path / "learning_curve.csv")] == ["0.5", "0.4"]
    assert [row["weight"] for row in rows(tmp_path / "merge_weight.csv")] == ["0.0", "0.5", "1.0"]


def test_without_training_only_the_header_is_written(outputs: StageOutputs, tmp_path: Path) -> None:
    write_plots(tmp_path, find(replace(outputs, history=None)))
    assert (tmp_path / "learning_curve.csv").read_text() == "epoch,loss,dev_wer,dev_cer\n"


def test_the_plots_of_dvc_yaml_name_columns_that_are_there(outputs: StageOutputs, tmp_path: Path) -> None:
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    write_plots(tmp_path, find(outputs))
    for plot in pipeline.get("plots", []):
        for title, settings in plot.items():
            ((path, columns),) = settings["y"].items()
            header = (tmp_path / Path(path).name).read_text(encoding="utf-8").splitlines()[0].split(",")
            wanted = {settings["x"], *([columns] if isinstance(columns, str) else columns)}
            assert wanted <= set(header), f"{title}: {path} has {header}"


def test_rates_are_one_value_and_long_lists_are_counted() -> None:
    wer = {"errors": 1, "reference_length": 8, "rate": 0.125}
    share = {"count": 1, "total": 4, "rate": 0.25, "interval": [0.1, 0.5]}
    tree = {"wer": wer, "names": list("abcdefghijklmnop"), "ok": True, "kept_share": share, "none_yet": {}}
    assert facts({"llm_labels": tree, "runs": [{"a": 1}] * 14, "empty": {}}) == [
        (
            "llm labels",
            "wer 12.5 % (1 of 8); names a, b, c, d, e, f, g, h, i, j, k, l, and 4 more; ok yes; "
            "kept share 25.0 % (1 of 4, interval 10.0 % to 50.0 %); none yet none",
        ),
        *((f"runs · {number}", "a 1") for number in range(1, 13)),
        ("runs", "and 2 more"),
        ("empty", "none"),
    ]


def test_a_large_part_has_a_line_for_each_of_its_parts() -> None:
    parts = {guard: dict.fromkeys("abcdefg", 1) for guard in ("none", "all")}
    assert [label for label, _ in facts({"by_guard": parts})] == ["by guard · none", "by guard · all"]


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=15) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(min_size=1, max_size=5), TREES, min_size=1, max_size=4))
def test_any_tree_has_lines_that_can_be_shown(tree: dict[str, object]) -> None:
    lines = facts(tree)
    assert lines and all(isinstance(label, str) and isinstance(value, str) for label, value in lines)
