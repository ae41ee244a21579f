"""Questions, a corrector that does not wait long, and what it says."""

from typing import Any

from mondegreen.labels.corrector import LlamaLLMCorrector
from mondegreen.labels.prompt import NoSuggestion, Question, Suggestion
from mondegreen.records import Alternative
from tests.support.ollama_server import FakeOllama

HEARD = "please leaf a massage after the tone"
SPOKEN = "please leave a message after the tone"


def question(id_: str = "a", text: str = HEARD, **given: Any) -> Question:
    return Question(id=id_, text=text, confidence=0.7, **given)


def misheard(id_: str = "a") -> Question:
    """One with an N-best list."""
    nbest = (Alternative(text=HEARD, score=-4.0), Alternative(text="please leave a massage after the tone", score=-5.0))
    return question(id_, nbest=nbest)


def corrector(server: FakeOllama | str, **given: Any) -> LlamaLLMCorrector:
    url = server if isinstance(server, str) else server.url
    return LlamaLLMCorrector(ollama_base_url=url, **{"retries": 2, "backoff": 0.01, "timeout": 5.0} | given)


def suggestion(result: Suggestion | NoSuggestion) -> Suggestion:
    assert isinstance(result, Suggestion), result
    return result


def refusal(result: Suggestion | NoSuggestion) -> NoSuggestion:
    """Why there is none: one line that says something."""
    assert isinstance(result, NoSuggestion), result
    assert result.message and "\n" not in result.message and len(result.message) < 500
    return result
