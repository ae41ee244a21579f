"""The model as MLflow serves it. MLflow copies this file and runs it, so it imports mondegreen only when it loads."""

import mlflow
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class SpeechRecogniser(PythonModel):
    """Bytes of wav, flac, ogg or mp3 files to their texts. A request to the server holds them in base64."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the weights, so that a server that answers /ping can transcribe."""
        from mondegreen.speech.transcriber import BaselineSTTModel

        self.recogniser = BaselineSTTModel(context.artifacts["model"])

    # Without the context: MLflow reads the signature from this one argument's type.
    def predict(self, model_input: list[bytes]) -> list[str]:  # type: ignore[override]
        """Transcribes each recording; one that cannot be decoded fails the request and says why."""
        return [self.recogniser.transcribe_bytes(content).text for content in model_input]


mlflow.models.set_model(SpeechRecogniser())
