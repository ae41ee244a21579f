"""The model as MLflow serves it. MLflow copies this file and runs it, so it imports mondegreen only when it loads."""

import sys
from pathlib import Path

import mlflow
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class SpeechRecogniser(PythonModel):
    """Bytes of wav, flac, ogg or mp3 files to their texts. A request to the server holds them in base64."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the weights, so that a server that answers /ping can transcribe.

        MLflow has put the package's folder `code` before all else that Python searches; the archive in it must be
        there by itself.
        """
        code = Path(__file__).with_name("code") / "mondegreen.zip"
        if code.is_file() and str(code) not in sys.path:
            sys.path.insert(0, str(code))
        from mondegreen.speech.transcriber import BaselineSTTModel

        self.recogniser = BaselineSTTModel(context.artifacts["model"])

    def predict(self, model_input: list[bytes]) -> list[str]:  # type: ignore[override]  # MLflow reads the signature here
        """Transcribes each recording; one that cannot be decoded fails the request and says why."""
        return [self.recogniser.transcribe_bytes(content).text for content in model_input]


mlflow.models.set_model(SpeechRecogniser())
