"""Dockerfile and compose.yaml, as far as they can be checked without Docker: what they copy, name, run and open."""

import http.server
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml

from mondegreen.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]


def instructions() -> list[tuple[str, str]]:
    """Name and arguments of each instruction of the Dockerfile."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


def given(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def test_what_the_image_copies_is_there_and_not_kept_out() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for arguments in given("COPY") for source in shlex.split(arguments)[:-1]}
    assert copied == allowed
    assert all((ROOT / source).exists() for source in copied)
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_image_is_made_of_the_pinned_requirements_and_runs_as_nobody_special() -> None:
    installs = [step for step in given("RUN") if "pip install" in step]
    assert installs and all("--constraint constraints.txt" in step for step in installs)
    names = [name for name, _ in instructions()]
    assert given("USER") == ["mondegreen"] and names.index("USER") < names.index("CMD")
    assert "useradd --uid 10001" in given("RUN")[0]


def test_every_service_is_looked_after_and_open_to_this_machine_alone() -> None:
    for name, service in SERVICES.items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == "unless-stopped", name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["ollama"]
    volumes = yaml.safe_load((ROOT / "compose.yaml").read_text())["volumes"]
    assert {entry.split(":")[0] for service in SERVICES.values() for entry in service["volumes"]} == set(volumes)
    assert all(other in SERVICES for service in SERVICES.values() for other in service.get("depends_on", ()))


def test_no_secret_has_a_default_and_every_variable_is_one_that_the_code_reads() -> None:
    code = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    for name, value in SERVICES["server"]["environment"].items():
        assert f'"{name}"' in code
        assert all(part.startswith(":?") for part in re.findall(r"\$\{\w+(.*?)\}", value))
    assert "${MONDEGREEN_SERVE_TOKEN:?" in SERVICES["server"]["environment"]["MONDEGREEN_SERVE_TOKEN"]


def test_commands_outside_the_containers_reach_what_the_server_uses() -> None:
    """Its models and its database: else a deployment would be written down where the server does not look."""
    page = (ROOT / "docs/serving.md").read_text().partition("## In containers")[2].partition("\n## ")[0]
    for name in ("MLFLOW_TRACKING_URI", "MONDEGREEN_DATABASE_URL"):
        inside = urlsplit(SERVICES["server"]["environment"][name].replace("${POSTGRES_PASSWORD:?}", "secret"))
        published = SERVICES[str(inside.hostname)]["ports"]
        found = re.findall(rf"{name}=(\S+)", (ROOT / "compose.yaml").read_text().partition("name:")[0])
        assert found == re.findall(rf"export {name}=(\S+)", page) and len(found) == 1
        outside = urlsplit(found[0].replace("$POSTGRES_PASSWORD", "secret"))
        assert published == [f"{outside.hostname}:{outside.port}:{inside.port or outside.port}"]
        assert (outside.scheme, outside.username, outside.password, outside.path) == (
            (inside.scheme, inside.username, inside.password, inside.path)
        )


@pytest.mark.parametrize("arguments", [yaml.safe_load(given("CMD")[0]), SERVICES["server"]["command"]])
def test_what_the_image_runs_is_a_command_of_ours(arguments: list[str]) -> None:
    assert yaml.safe_load(given("ENTRYPOINT")[0]) == ["mondegreen"]
    command = typer.main.get_command(app).commands[arguments[0]]  # type: ignore[attr-defined]
    found = command.make_context(arguments[0], arguments[1:])
    assert found.params["host"] == "0.0.0.0"
    assert str(found.params["port"]) == SERVICES["server"]["ports"][0].rsplit(":", 1)[1] == given("EXPOSE")[0]


def test_what_mlflow_runs_is_a_command_of_its_own() -> None:
    from mlflow.cli import server

    assert SERVICES["mlflow"]["entrypoint"] == ["mlflow", "server"]
    found = server.make_context("server", list(SERVICES["mlflow"]["command"])).params
    assert (found["host"], found["port"]) == ("0.0.0.0", 5000)
    asked = SERVICES["server"]["environment"]["MLFLOW_TRACKING_URI"].removeprefix("http://")
    assert asked in found["allowed_hosts"]


@pytest.mark.parametrize("service", ["server", "mlflow"])
@pytest.mark.parametrize("status", [200, 503])
def test_a_health_check_fails_where_the_service_does(service: str, status: int) -> None:
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path in ("/healthz", "/health") else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    _, program, option, code = SERVICES[service]["healthcheck"]["test"]
    assert (program, option) == ("python", "-c")
    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as listening:
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        asked = re.sub(r":\d+/", f":{listening.server_port}/", code)
        done = subprocess.run([sys.executable, "-I", "-c", asked], capture_output=True, timeout=30)
        listening.shutdown()
    assert (done.returncode == 0) == (status == 200)
    if service == "server":
        assert yaml.safe_load(given("HEALTHCHECK")[0].split("CMD")[1])[-1] == code


def test_what_links_of_the_package_lead_to_is_in_the_image() -> None:
    copied = [ROOT / source for arguments in given("COPY") for source in shlex.split(arguments)[:-1]]
    for link in (path for path in (ROOT / "src").rglob("*") if path.is_symlink()):
        assert any(link.resolve() == source or source in link.resolve().parents for source in copied), link
