"""deploy/compose-cluster.yml and deploy/kubernetes/: by schema, and against our options."""

from __future__ import annotations

import copy
import os
import re
import textwrap
from itertools import chain
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]

from zerocopy.config.load import Config, load

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose-cluster.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NODES = ["node1", "node2", "node3"]
FRONT_TEXT = (DEPLOY / "haproxy.cfg").read_text("utf-8")
MANIFESTS: list[dict[str, Any]] = [
    document
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text("utf-8"))
]
SCHEMAS = ("1.30", "1.37")
"""The first that knows `preStop.sleep`, and the last of the pinned kubernetes-validate."""
IMAGE = {"ZEROCOPY_PROFILE": "production"}
"""What the Dockerfile sets."""
KILLED_AFTER_S = 10.0


def manifest(kind: str, name: str) -> dict[str, Any]:
    """The only document of this kind and name."""
    [found] = [
        document
        for document in MANIFESTS
        if (document["kind"], document["metadata"]["name"]) == (kind, name)
    ]
    return found


def pod_of(kind: str, name: str) -> dict[str, Any]:
    """The specification of its pods."""
    spec: dict[str, Any] = manifest(kind, name)["spec"]["template"]["spec"]
    return spec


def environment_of_front(container: dict[str, Any]) -> dict[str, str]:
    """The variables that have a value."""
    return {item["name"]: item["value"] for item in container["env"] if "value" in item}


def preset() -> dict[str, str]:
    """The variables of deploy/haproxy.cfg with their defaults."""
    return dict(re.findall(r"presetenv (\w+) +(\S+)", FRONT_TEXT))


def test_compose_starts_three_nodes_that_the_front_and_prometheus_know() -> None:
    """Ports and names agree in all three; the options are accepted."""
    for name in NODES:
        config = load(os.devnull, environ=IMAGE | SERVICES[name]["environment"])
        assert config.listeners() == (8_080, None)
        assert config.server.host == config.metrics.host == "0.0.0.0"
        assert config.auth.limits_url == "redis://redis:6379/0"
        assert config.auth.address_field == "x-forwarded-for"
        assert "auth" in SERVICES[name]["build"]["args"]["EXTRAS"], "which limits_url needs"
    assert "option forwardfor if-none\n" in FRONT_TEXT
    front = SERVICES["haproxy"]["environment"]
    assert set(front) <= set(preset())
    assert [front[f"NODE{number}"] for number in (1, 2, 3)] == [f"{node}:8080" for node in NODES]
    scrape = yaml.safe_load((REPOSITORY / "monitoring/cluster/prometheus.yml").read_text("utf-8"))
    targets = {
        job["job_name"]: job["static_configs"][0]["targets"] for job in scrape["scrape_configs"]
    }
    assert targets == {
        "zerocopy": [f"{node}:9091" for node in NODES],
        "haproxy": [f"haproxy{front['FRONT_METRICS']}"],
    }
    mounted = {volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]}
    assert set(scrape["rule_files"]) <= mounted


def test_compose_gives_time_to_drain_and_descriptors() -> None:
    """As much as the server and HAProxy need."""
    config = Config()
    for name in NODES:
        grace_s = float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert grace_s > config.server.drain_deadline_s + KILLED_AFTER_S
    connections = int(re.findall(r"^    maxconn (\d+)", FRONT_TEXT, re.MULTILINE)[0])
    assert SERVICES["haproxy"]["ulimits"]["nofile"] > 2 * connections


def test_compose_over_a_store_gives_each_node_a_cache_of_its_own() -> None:
    """The options are accepted; the extra for stores is in the image."""
    over: dict[str, Any] = yaml.safe_load((DEPLOY / "compose-store.yml").read_text("utf-8"))
    assert set(over["services"]) == {*NODES, "s3"}
    caches = set()
    for name in NODES:
        given = {
            key: re.sub(r"\$\{\w+:-(.*)\}", r"\1", value)
            for key, value in over["services"][name]["environment"].items()
        }
        config = load(os.devnull, environ=IMAGE | SERVICES[name]["environment"] | given)
        assert config.data.path == "s3://market/md"
        assert config.s3.endpoint == "http://s3:5000"
        volume, instead = over["services"][name]["volumes"]
        # Docker Compose merges volumes by their target.
        assert [instead["target"]] == [each["target"] for each in SERVICES[name]["volumes"]]
        assert instead["type"] == "tmpfs"
        volume, _, path = volume.partition(":")
        assert path == config.s3.cache_path
        assert volume in over["volumes"]
        caches.add(volume)
        assert "s3" in SERVICES[name]["build"]["args"]["EXTRAS"]
    assert len(caches) == len(NODES)


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_service_of_compose_is_confined(service: dict[str, Any]) -> None:
    """No capability, a root that cannot be written, files that exist; only TLS is published."""
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    published = [port for port in service.get("ports", []) if not port.startswith("127.0.0.1:")]
    assert published == (["8443:8443"] if service is SERVICES["haproxy"] else [])
    for volume in service.get("volumes", []):
        if isinstance(volume, str) and volume.startswith("."):
            assert (DEPLOY / volume.split(":")[0]).exists(), volume
            assert volume.endswith(":ro"), volume


@pytest.mark.parametrize("version", SCHEMAS)
def test_manifests_are_those_of_kubernetes(version: str) -> None:
    """Every field is known to the schema, strictly."""
    assert len(MANIFESTS) == 7
    for document in MANIFESTS:
        kubernetes_validate.validate(document, version, strict=True)


def test_schema_check_finds_a_field_that_is_none() -> None:
    """The check above can fail."""
    wrong = {**manifest("StatefulSet", "zerocopy"), "spce": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, SCHEMAS[-1], strict=True)


def test_options_of_kubernetes_are_accepted(tmp_path: Path) -> None:
    """Ports, probes and mounts are those of the configuration in the ConfigMap."""
    (tmp_path / "config.toml").write_text(
        manifest("ConfigMap", "zerocopy")["data"]["config.toml"], "utf-8"
    )
    config = load(str(tmp_path / "config.toml"), environ=IMAGE)
    pod = pod_of("StatefulSet", "zerocopy")
    [container] = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": config.listeners()[0], "metrics": config.metrics.port}
    assert config.server.host == config.metrics.host == "0.0.0.0"
    nodes = {port["port"] for port in manifest("Service", "zerocopy-nodes")["spec"]["ports"]}
    assert nodes == set(ports.values())
    assert {probe: container[probe]["httpGet"]["path"] for probe in PROBES} == PROBES
    assert all(container[probe]["httpGet"]["port"] == "http" for probe in PROBES)
    assert config.data.path in {mount["mountPath"] for mount in container["volumeMounts"]}
    assert config.server.workers == int(container["resources"]["limits"]["cpu"])


PROBES = {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}


def test_manifest_over_a_store_as_the_page_has_it(tmp_path: Path) -> None:
    """What docs/scale-out.md says to change gives options and a StatefulSet that are accepted."""
    page = (REPOSITORY / "docs" / "scale-out.md").read_text("utf-8")
    section = page.partition("Over an object store the claim")[2].partition("Credentials come")[0]
    options, manifest_text = re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)
    text = manifest("ConfigMap", "zerocopy")["data"]["config.toml"]
    (tmp_path / "config.toml").write_text(text + textwrap.dedent(options), "utf-8")
    config = load(str(tmp_path / "config.toml"), environ=IMAGE)
    changes = yaml.safe_load(textwrap.dedent(manifest_text))
    changed = copy.deepcopy(manifest("StatefulSet", "zerocopy"))
    pod = changed["spec"]["template"]["spec"]
    pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] != "data"]
    mounts = pod["containers"][0]["volumeMounts"]
    mounts[:] = [mount for mount in mounts if mount["name"] != "data"] + changes["volumeMounts"]
    pod["securityContext"] |= changes["securityContext"]
    changed["spec"]["volumeClaimTemplates"] = changes["volumeClaimTemplates"]
    kubernetes_validate.validate(changed, SCHEMAS[-1], strict=True)
    assert config.s3.cache_path in {mount["mountPath"] for mount in mounts}
    [claim] = changes["volumeClaimTemplates"]
    size = claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")
    assert int(size) << 30 > config.s3.cache_bytes_max * 1.1
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"]


def test_pods_get_time_to_drain() -> None:
    """The grace is above what preStop and the drain take; one node at a time is disturbed."""
    server = Config().server
    pod = pod_of("StatefulSet", "zerocopy")
    pre_stop_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    needed_s = pre_stop_s + server.drain_deadline_s + KILLED_AFTER_S
    assert pod["terminationGracePeriodSeconds"] > needed_s
    for kind, name in (("StatefulSet", "zerocopy"), ("Deployment", "zerocopy-front")):
        budget = manifest("PodDisruptionBudget", name)["spec"]
        assert budget["maxUnavailable"] == 1
        labels = manifest(kind, name)["spec"]["template"]["metadata"]["labels"]
        assert budget["selector"]["matchLabels"] == labels
        assert manifest(kind, name)["spec"]["selector"]["matchLabels"] == labels


def test_front_of_kubernetes_knows_every_node_by_its_name() -> None:
    """The names of the StatefulSet's pods, the ports of the headless Service and of HAProxy."""
    nodes = manifest("StatefulSet", "zerocopy")["spec"]
    [container] = pod_of("Deployment", "zerocopy-front")["containers"]
    given = environment_of_front(container)
    assert set(given) <= set(preset())
    suffix = f"{nodes['serviceName']}.$(NAMESPACE).svc.cluster.local:8080"
    found = [value for name, value in given.items() if name.startswith("NODE")]
    assert found == [f"zerocopy-{number}.{suffix}" for number in range(nodes["replicas"])]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    listened = {"https": preset()["FRONT_TLS"], "metrics": given["FRONT_METRICS"]}
    assert {name: int(address.removeprefix(":")) for name, address in listened.items()} == ports
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    for path in (preset()["FRONT_CERT"], preset()["FRONT_SOCKET"]):
        assert os.path.dirname(path) in mounts


def test_pods_can_do_no_more_than_they_need() -> None:
    """No root, no token of the API, no variables of Services, nothing to write to."""
    for kind, name in (("StatefulSet", "zerocopy"), ("Deployment", "zerocopy-front")):
        pod = pod_of(kind, name)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
        writable = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
        mounts = chain.from_iterable(container["volumeMounts"] for container in pod["containers"])
        assert all(mount.get("readOnly") for mount in mounts if mount["name"] not in writable)
