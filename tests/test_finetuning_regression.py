"""The fine-tuning guide's regression tests, as a user types them."""

from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MONDEGREEN_DATABASE_URL", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "test_data"
    folder.mkdir()
    rows = [f"{number}.wav,one two three four {number}" for number in range(5)]
    (folder / "references.csv").write_text("\n".join(["path,text", *rows]) + "\n")
    for number in range(5):
        soundfile.write(folder / f"{number}.wav", 0.3 * np.sin(np.arange(8_000) / (9 + number)), 16_000)


def transcribe(path: str) -> str:
    return f"one two three four {Path(path).stem}"


def test_the_guides_regression_tests() -> None:
    from mondegreen import RegressionConfig, RegressionTester

    tester = RegressionTester(
        config=RegressionConfig(fail_on_critical_degradation=True, critical_degradation_threshold=0.1)
    )
    for test_name, test_type in (("general", "benchmark"), ("numbers", "critical"), ("accents", "edge_cases")):
        tester.register_test(
            test_name=test_name,
            test_type=test_type,
            test_data_path="test_data",
            baseline_wer=0.05,
            baseline_cer=0.05,
            baseline_version="v1.0",
        )
    results = tester.run_test_suite(model_version="v1.1", model_transcribe_fn=transcribe)
    assert results.passed and "3 suites passed" in results.reason
    assert [suite.name for suite in results.suites] == ["general", "numbers", "accents"]
    assert results.to_dict()["model_version"] == "v1.1"

    worse = tester.run_test_suite(model_version="v1.2", model_transcribe_fn=lambda path: "one two three")
    assert not worse.passed and worse.critical_degradation == ["numbers"]

    assert "v1.1 0.0 %, v1.2 40.0 %" in tester.generate_regression_report()
    assert [run.model_version for run in tester.get_history()] == ["v1.2", "v1.1"]
    assert tester.get_trend("numbers")["improvement"] == pytest.approx(-0.4)


def test_the_defaults_of_the_config_are_the_guides() -> None:
    from mondegreen import RegressionConfig
    from mondegreen.config import Params

    assert RegressionConfig().fail_on_critical_degradation is True
    assert RegressionConfig().critical_degradation_threshold == 0.1
    assert RegressionConfig.from_params(Params()).to_dict() == Params().regress.model_dump(mode="json")
