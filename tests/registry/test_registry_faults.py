"""What goes wrong around the registry, really made to: afterwards the champion still answers, and the ledger agrees."""

import errno
import itertools
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from mondegreen.errors import CaseError, MondegreenError, RegistryError
from mondegreen.registry.aliases import BusyError, holdings
from mondegreen.registry.doctor import relocate
from mondegreen.registry.gate import DeploymentRefusedError
from mondegreen.registry.ledger import CHAMPION, Ledger
from mondegreen.registry.package import FILES_TAG, Backups, checksums
from mondegreen.registry.recovery import external_changes
from mondegreen.registry.resolving import resolve_uri
from tests.registry.conftest import enter, make_project, without_code
from tests.registry.registered import (
    NAME,
    add,
    deployer,
    in_child,
    package,
    save_folder,
    stages_and_aliases,
    start_child,
    wait_for,
    weights,
)

CHAMPION_URI = f"models:/{NAME}@champion"
# Every write that a move makes, in MLflow and in the ledger.
WRITES: tuple[tuple[Any, str], ...] = (
    (MlflowClient, "set_registered_model_alias"),
    (MlflowClient, "delete_registered_model_alias"),
    (MlflowClient, "transition_model_version_stage"),
    (MlflowClient, "update_model_version"),
    (MlflowClient, "delete_model_version"),
    (mlflow, "register_model"),
    (Ledger, "_append"),
)


def answers() -> bytes:
    """The weights that whoever loads the champion gets."""
    return (resolve_uri(CHAMPION_URI) / "model.safetensors").read_bytes()


def die_at(number: int) -> None:
    """This process kills itself before its `number`th write."""
    made = 0

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal made
            made += 1
            if made == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return call

    for place, name in WRITES:
        setattr(place, name, deadly(getattr(place, name)))


MOVES: dict[str, Callable[[Path], object]] = {
    "register": lambda project: add(project, 5),
    "deploy": lambda project: deployer().deploy_model("4"),
    "rollback": lambda project: deployer().rollback(),
    "delete": lambda project: deployer().delete_version("3"),
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, database_template: Path) -> Path:
    """A project with champion 2, 1 before it, and 3 and 4 that passed; made by a child, so that no connection to it
    is inherited by others."""
    folder = make_project(tmp_path_factory.mktemp("filled") / "project", database_template)

    def fill() -> None:
        for seed in (1, 2):
            deployer().deploy_model(add(folder, seed))
        for seed in (3, 4):
            add(folder, seed)

    with pytest.MonkeyPatch.context() as patch:
        without_code(enter(folder, patch), patch)
        assert in_child(fill)[1] is None
    return folder


@pytest.fixture
def copies(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Makes a copy of that project and enters it."""
    monkeypatch.setattr("mondegreen.registry.package._CODE", filled / "code")
    numbers = itertools.count(1)

    def copy() -> Path:
        project = shutil.copytree(filled, tmp_path / f"copy{next(numbers)}")
        enter(project, monkeypatch)
        relocate()
        return project

    return copy


def state_after_repair() -> dict[str, Any]:
    """What the next command finds, and whether ledger, aliases and stages agree then."""
    desk = deployer()
    desk.settle()
    held, ledger = holdings(NAME), Ledger.open(desk.folder, NAME)
    return {
        "notes": desk.notes,
        "consistent": (ledger.aliases(), ledger.unfinished(), held.misplaced()) == (held.aliases, [], {}),
        "champion": held.aliases.get(CHAMPION),
        "weights": answers(),
        "last": ledger.everything()[-1].state,
        "settled": deployer().list_versions() and not deployer().notes,
    }


@pytest.mark.parametrize(
    "move", ["deploy", *(pytest.param(move, marks=pytest.mark.slow) for move in ("register", "rollback", "delete"))]
)
def test_kill_9_at_every_write_leaves_what_the_next_command_repairs(move: str, copies: Callable[[], Path]) -> None:
    expected = {"register": 2, "deploy": 4, "rollback": 1, "delete": 2}[move]
    for number in range(1, 30):
        project = copies()

        def cut_off(number: int = number, project: Path = project) -> object:
            die_at(number)
            return MOVES[move](project) is not None

        status, done = in_child(cut_off)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert killed or done is True, done
        _, found = in_child(state_after_repair)
        assert isinstance(found, dict), found
        where = f"{move}, killed before write {number}: {found}"
        assert found["consistent"] and found["settled"], where
        assert found["champion"] in (2, expected), where
        assert found["weights"] == (project / f"models/{found['champion']}/model.safetensors").read_bytes(), where
        if not killed:
            assert found["champion"] == expected and number > 3, where
            return
        if found["notes"]:
            text = " ".join(found["notes"])
            assert ("was cut off" in text and "run it again" in text) or "finished" in text or "delete" in text, where
        if found["champion"] == 2 and number == 3 and move != "delete":  # what was taken back can be done now
            _, again = in_child(lambda project=project: MOVES[move](project) is not None)
            assert again is True, (where, again)
    pytest.fail("it never came to its end")


def test_of_two_deployers_one_wins_and_the_other_is_told(copies: Callable[[], Path]) -> None:
    project = copies()
    gate = project / "go"

    def contender(version: str) -> Callable[[], str]:
        def run() -> str:
            desk = deployer()
            while not gate.exists():
                time.sleep(0.005)
            try:
                return desk.deploy_model(version).text
            except RegistryError as error:
                return f"refused: {error}"

        return run

    children = [start_child(contender(version)) for version in ("3", "4")]
    gate.touch()
    said = [wait_for(child)[1] for child in children]
    refused = [text for text in said if text.startswith("refused")]
    assert len(refused) == 1 and ("champion changed" in refused[0] or "moved the champion meanwhile" in refused[0]), (
        said
    )
    _, found = in_child(state_after_repair)
    assert isinstance(found, dict) and found["consistent"] and found["champion"] in (3, 4)


def test_a_lock_that_is_held_is_said_and_does_not_keep_anybody_from_looking(
    copies: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copies()
    from filelock import FileLock

    def while_held() -> object:
        from mondegreen.registry.aliases import alone, opened

        with FileLock(str(project / "mlruns" / ".registry.lock")):
            seen = len(deployer().list_versions())
            with (
                opened(NAME, project / "var") as registry,
                pytest.raises(BusyError, match="Somebody else"),
                alone(registry, patience=0),
            ):
                pass
            return seen

    assert in_child(while_held)[1] == 4


def damaged(number: int, how: str) -> None:
    """One of the files of a version as a bad disk or a bad person would leave it."""
    file = weights(number)
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:-5])
    elif how == "swapped":
        shutil.copy(weights(1 if number != 1 else 2), file)
    elif how == "gone":
        file.unlink()
    elif how == "pickle instead":
        file.rename(file.with_name("pytorch_model.bin"))
    elif how == "pickle beside":
        file.with_name("pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    elif how == "folder gone":
        shutil.rmtree(package(number))
    elif how == "code altered":
        (package(number) / "pyfunc_model.py").write_text("import os")


DAMAGE = ("truncated", "swapped", "gone", "pickle instead", "pickle beside", "folder gone", "code altered")


def test_files_that_are_not_what_was_registered_are_not_deployed(light: Path) -> None:
    deployer().deploy_model(add(light, 1))
    good = answers()
    for seed, how in enumerate(DAMAGE, 2):
        version = add(light, seed)
        damaged(seed, how)
        with pytest.raises(DeploymentRefusedError, match=r"Its files"):
            deployer().deploy_model(version)
        if how in ("swapped", "code altered"):
            continue
        with pytest.raises(DeploymentRefusedError, match="cannot be served"):
            deployer().deploy_model(version, force=True, reason="it will be all right")
    assert answers() == good and stages_and_aliases()[1] == ("Production", ["champion"])


def test_altered_files_that_are_deployed_by_force_are_what_it_is_from_then_on(light: Path) -> None:
    deployer().deploy_model(add(light, 1))
    version = add(light, 2)
    damaged(2, "swapped")
    deployer().deploy_model(version, force=True, reason="retouched by hand")
    assert answers() == weights(1).read_bytes() and deployer().verify("2")[0].ok
    assert "other bytes" in deployer().history(1)[0].details["overridden"][0]


@pytest.mark.parametrize("how", ["truncated", "swapped", "folder gone"])
def test_a_champion_that_is_damaged_answers_from_its_backup(light: Path, how: str) -> None:
    deployer().deploy_model(add(light, 1))
    deployer().deploy_model(add(light, 2))
    good = answers()
    damaged(2, how)
    assert answers() == good
    deployer().verify(restore=True)
    assert weights(2).read_bytes() == good
    damaged(2, how)
    shutil.rmtree(light / "var" / "backups")
    with pytest.raises(RegistryError, match=r"not those that were registered.*|missing"):
        answers()
    assert deployer().rollback().version == 1 and answers() == weights(1).read_bytes()


def _store_away(project: Path, patch: pytest.MonkeyPatch, how: str) -> None:
    """The files of version 1 are where nobody can fetch them, nor put them back."""
    if how == "a file in its place":
        store = package(1)
        shutil.rmtree(store)
        store.write_text("a mount point without its mount")
        patch.setattr("mondegreen.registry.package._replaced", _full)
        return
    where = "http://127.0.0.1:9/files"
    with sqlite3.connect(project / "mlruns" / "mlflow.db") as connection:
        connection.execute("update model_versions set storage_location = ?, source = ? where version = 1", [where] * 2)
    if how == "a client's own error":
        patch.setattr("mondegreen.registry.aliases.download", _client_fails)


def _full(*_: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def _client_fails(*_: object) -> None:
    raise EOFError("the bucket's client has errors of its own")


AWAY = ("a file in its place", "nobody listens", "a client's own error")


@pytest.mark.parametrize("how", AWAY)
def test_a_rollback_needs_no_artifact_store_where_the_backup_is_what_was_registered(
    light: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    deployer().deploy_model(add(light, 1))
    good = answers()
    deployer().deploy_model(add(light, 2))
    _store_away(light, monkeypatch, how)
    desk, began = deployer(), time.monotonic()
    assert desk.rollback(reason="callers complain").version == 1 and answers() == good
    assert time.monotonic() - began < 60, "MLflow would try for minutes"
    (said,) = desk.notes
    assert said.startswith("The backup of version 1 answers") and "verify --restore" in said
    assert desk.history(1)[0].details["backup"] == said
    assert stages_and_aliases()[1] == ("Production", ["champion"])


@pytest.mark.parametrize("backup", ["gone", "altered", "of other bytes", "no checksums"])
def test_without_the_backup_of_what_was_registered_it_goes_back_to_nothing(
    light: Path, monkeypatch: pytest.MonkeyPatch, backup: str
) -> None:
    deployer().deploy_model(add(light, 1))
    deployer().deploy_model(add(light, 2))
    backups = Backups(light / "var", NAME)
    file = next(backups.package(1).rglob("model.safetensors"))
    if backup == "gone":
        backups.delete(1)
    elif backup == "altered":
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    elif backup == "of other bytes":  # whole, but another model's
        backups.delete(1)
        backups.make(1, package(2), checksums(package(2)), "d")
    else:
        MlflowClient().delete_model_version_tag(NAME, "1", FILES_TAG)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    _store_away(light, monkeypatch, "nobody listens")
    held = stages_and_aliases()
    with pytest.raises(RegistryError, match="cannot be reached"):
        deployer().rollback()
    assert stages_and_aliases() == held and deployer().history(1)[0].action == "deploy"


def test_a_package_that_was_fetched_in_vain_is_not_left_behind(
    light: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployer().deploy_model(add(light, 1))
    shutil.rmtree(light / "var" / "backups")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    monkeypatch.setattr("mondegreen.registry.resolving.local_folder", lambda uri: None)  # as of a server's
    good = weights(1).read_bytes()
    damaged(1, "truncated")
    for _ in range(2):
        with pytest.raises(RegistryError, match="not those that were registered"):
            answers()
    weights(1).write_bytes(good)
    with monkeypatch.context() as patch:
        patch.setattr("mondegreen.registry.resolving.differences", None)  # it fails in another way
        with pytest.raises(TypeError):
            answers()
    assert answers() == good  # kept as its backup
    assert not list((tmp_path / "scratch").iterdir())


def test_nothing_to_go_back_to(light: Path) -> None:
    with pytest.raises(RegistryError, match="nothing to roll back to"):
        deployer().rollback()
    deployer().deploy_model(add(light, 1))
    with pytest.raises(RegistryError, match="no earlier version"):
        deployer().rollback()
    assert answers() == weights(1).read_bytes()


def test_a_champion_that_was_deleted_by_hand_is_noticed_and_replaced(light: Path) -> None:
    deployer().deploy_model(add(light, 1))
    deployer().deploy_model(add(light, 2))
    with pytest.raises(RegistryError, match="@champion"):
        deployer().delete_version("2")
    MlflowClient().delete_model_version(NAME, "2")
    assert "@champion moved from version 2 to nobody" in external_changes(NAME, light / "var")[0]
    assert deployer().rollback().version == 1 and answers() == weights(1).read_bytes()


def test_a_registry_that_was_there_before_the_ledger_is_taken_over(light: Path) -> None:
    deployer().deploy_model(add(light, 1))
    add(light, 2)
    (light / "var" / "mondegreen.db").unlink()
    for rest in (light / "var").glob("mondegreen.db-*"):
        rest.unlink()
    deployer().settle()
    entries = deployer().history()
    assert [(entry.action, entry.version) for entry in entries] == [("found", 1)]
    assert deployer().deploy_model("2").former == 1 and deployer().rollback().version == 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for a lock of SQLite for a moment, not for a minute."""
    monkeypatch.setattr("mondegreen.db._PATIENCE", 0.2)
    monkeypatch.setenv("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")


def test_a_ledger_that_cannot_be_written_keeps_everything_as_it_is(light: Path, impatient: None) -> None:
    deployer().deploy_model(add(light, 1))
    add(light, 2)
    before, good = stages_and_aliases(), answers()
    database = light / "var" / "mondegreen.db"
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(CaseError, match="locked"):
        deployer().deploy_model("2")
    other.close()
    content = database.read_bytes()
    database.write_bytes(b"no database" * 500)
    with pytest.raises(CaseError):
        deployer().deploy_model("2")
    assert stages_and_aliases() == before and answers() == good
    for rest in (light / "var").glob("mondegreen.db*"):
        rest.unlink()
    database.write_bytes(content)
    assert deployer().deploy_model("2").version == 2


def test_a_registry_that_is_locked_read_only_or_gone(light: Path) -> None:
    deployer().deploy_model(add(light, 1))
    add(light, 2)
    good, database = answers(), light / "mlruns" / "mlflow.db"

    def refused() -> str:
        try:
            return deployer().deploy_model("2").text
        except MondegreenError as error:
            return f"refused: {error}"

    def with_state(begin: str) -> tuple[str, bytes]:
        """In a child, whose connections are new."""
        other = sqlite3.connect(database, isolation_level=None, timeout=0)
        other.execute(begin)
        try:
            return wait_for(start_child(lambda: (refused(), answers())))[1]
        finally:
            other.close()

    def read_only() -> tuple[str, bytes]:
        def denied(*arguments: object, **named: object) -> object:
            raise mlflow.exceptions.MlflowException("(sqlite3.OperationalError) attempt to write a readonly database")

        for name in ("set_registered_model_alias", "transition_model_version_stage"):
            setattr(MlflowClient, name, denied)
        return refused(), answers()

    said, answered = with_state("BEGIN IMMEDIATE")
    assert said.startswith("refused") and "locked" in said and answered == good
    said, answered = with_state("BEGIN EXCLUSIVE")  # not even to be read: the last known champion answers
    assert said.startswith("refused") and answered == good
    said, answered = wait_for(start_child(read_only))[1]
    assert "refused" in said and "readonly" in said and answered == good
    database.rename(light / "elsewhere.db")
    said, answered = wait_for(start_child(lambda: (refused(), answers())))[1]
    assert "refused" in said and "is gone" in said and answered == good and not database.exists()
    (light / "elsewhere.db").rename(database)
    _, found = in_child(state_after_repair)
    assert isinstance(found, dict) and found["consistent"] and found["champion"] == 1
    assert in_child(lambda: deployer().deploy_model("2").version)[1] == 2


def test_a_registry_that_lost_the_model_is_not_taken_for_a_move_by_hand(light: Path) -> None:
    deployer().deploy_model(add(light, 1))
    client = MlflowClient()
    client.delete_registered_model(NAME)
    with pytest.raises(RegistryError, match="holds no version"):
        deployer().list_versions()
    with pytest.raises(RegistryError, match="holds no version"):
        external_changes(NAME, light / "var")


def test_a_disk_that_is_full_stops_before_anything_is_moved(light: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deployer().deploy_model(add(light, 1))
    version = add(light, 2)

    def full(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.copytree", full)
        with pytest.raises(RegistryError, match="No space left"):
            deployer().deploy_model(version)
    assert stages_and_aliases()[1] == ("Production", ["champion"])
    assert not [path for path in (light / "var" / "backups").rglob("*") if "writing" in path.name]
    assert deployer().deploy_model(version).version == 2


def test_a_folder_with_a_pickle_is_not_registered(light: Path) -> None:
    folder = save_folder(light / "model")
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(MondegreenError, match="pickle"):
        deployer().register_model(NAME, folder)
    (folder / "model.safetensors").rename(folder / "model.bin")
    with pytest.raises(MondegreenError, match=r"pickle.*safetensors is missing"):
        deployer().register_model(NAME, folder)
    assert not holdings(NAME).stages
