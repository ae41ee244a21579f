"""How long a command waits for an MLflow server.

What somebody waits for on a screen, and the server: one that does not answer is said within seconds. Stages and rounds
keep MLflow's patience, minutes, because a training is not to fail with a server that starts anew. So does what moves
something, once the server was there: a pause between two requests is to cost a wait and no half move.
"""

import os

_IMPATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "4", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
_SET: set[str] = set()  # by us, and not by who runs the command


def for_a_look() -> None:
    """Asks a server early, and waits seconds only; what somebody set counts."""
    for name, value in _IMPATIENT.items():
        if name not in os.environ:
            os.environ[name] = value
            _SET.add(name)
    if os.environ.get("MLFLOW_TRACKING_URI"):
        from mondegreen.registry.mlflow_store import ask_early

        ask_early()


def for_a_move() -> None:
    """Raises RegistryAwayError where the server is not there; from here on MLflow's patience counts."""
    if os.environ.get("MLFLOW_TRACKING_URI"):
        from mondegreen.registry.mlflow_store import check_answers

        check_answers(at_once=True)
    for name in _SET:
        if os.environ.get(name) == _IMPATIENT[name]:
            del os.environ[name]
    _SET.clear()
