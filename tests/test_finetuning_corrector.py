"""The fine-tuning guide's corrector, typed as a user would."""

import runpy
import sys
from pathlib import Path

import pytest

from mondegreen import LlamaLLMCorrector
from tests.support.ollama_server import DIGEST, MODEL, ollama, transcript

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts" / "fine_tune_scripts"


def test_the_guides_constructor_corrects_a_transcript() -> None:
    with ollama(transcript("thank you for calling")) as server:
        corrector = LlamaLLMCorrector(model_name="llama3.2:3b", ollama_base_url=server.url)
        result = corrector.correct("thank you for cauling")
        assert result.text == "thank you for calling"  # type: ignore[union-attr]
        assert server.asked[0]["model"] == "llama3.2:3b"


def test_the_guides_default_is_the_local_server_and_the_small_llama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_HOST", raising=False)
    corrector = LlamaLLMCorrector()
    assert (corrector.model_name, corrector.server.url) == ("llama3.2:3b", "http://localhost:11434")


@pytest.mark.parametrize(
    ("script", "says"), [("test_llm_connection", "schema honoured"), ("check_ollama_models", MODEL)]
)
def test_the_guides_scripts_run_from_anywhere(
    script: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with ollama(transcript("please leave a message after the tone"), models={MODEL: DIGEST}) as server:
        monkeypatch.setattr(sys, "argv", [f"{script}.py", "--url", server.url])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    assert not ended.value.code
    assert says in capsys.readouterr().out
