"""The configuration beside what a cluster and the clients have put into the environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.server import ForkedServer
from tests.table import each
from zerocopy.config.load import load as load_found
from zerocopy.config.load import passed_over
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from zerocopy.config.load import Config


def load(environ: dict[str, str]) -> Config:
    """What these variables come to, without a file."""
    return load_found(environ={"ZEROCOPY_CONFIG": os.devnull, **environ})


def service(name: str) -> dict[str, str]:
    """The variables of a Kubernetes Service with two named ports, for each container beside it."""
    variables = {
        "SERVICE_HOST": "10.96.7.1",
        "SERVICE_PORT": "8443",
        "SERVICE_PORT_HTTPS": "8443",
        "SERVICE_PORT_HTTP_PLAIN": "8080",
        "PORT": "tcp://10.96.7.1:8443",
    }
    for number, protocol in ((8443, "TCP"), (8080, "UDP"), (9, "SCTP")):
        url = f"{protocol.lower()}://[fd00::7]:{number}"
        prefix = f"PORT_{number}_{protocol}"
        variables |= {prefix: url, f"{prefix}_PROTO": protocol.lower()}
        variables |= {f"{prefix}_PORT": str(number), f"{prefix}_ADDR": "fd00::7"}
    return {f"{name}_{variable}": value for variable, value in variables.items()}


@each(
    "name",
    [
        *("ZEROCOPY", "METRICS", "ZEROCOPY_METRICS", "ZEROCOPY_PLAIN", "ZEROCOPY_TLS"),
        *(
            "ZEROCOPY_SERVER",
            "ZEROCOPY_COLUMNS",
            "ZEROCOPY_LIMITS",
            "PORT",
            "HOST",
            "ZEROCOPY_EU_1",
        ),
    ],
)
def test_load_variables_of_a_kubernetes_service_are_no_settings(name: str) -> None:
    """A Service may be called what the server or its options are: its variables are passed over."""
    environ = service(name)
    assert load(environ=environ) == load(environ={})
    known = [one for one in environ if one.startswith("ZEROCOPY_") or one == "METRICS_PORT"]
    assert sorted(passed_over(environ)) == sorted(known)


def test_load_settings_beside_those_of_a_service_hold() -> None:
    """What the value says decides: a number is a port, a URL of tcp is a Service's."""
    environ = service("ZEROCOPY_METRICS") | {"METRICS_PORT": "9000", "ZEROCOPY_COLUMNS_PORT": "u8"}
    config = load(environ=environ)
    assert (config.metrics.port, config.columns) == (9000, {"PORT": "u8"})
    assert load(environ={"ZEROCOPY_METRICS_PORT": "9001"}).metrics.port == 9001


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ZEROCOPY_SERVER_PROT", "8443"),
        ("ZEROCOPY_SERVICE_HOST", "www.example.com"),
        ("ZEROCOPY_SERVICE_HOTS", "10.96.7.1"),
        ("ZEROCOPY_SERVICE_PORT", "many"),
        ("ZEROCOPY_PORT", "8443"),
        ("ZEROCOPY_PORT", "http://10.96.7.1:8443"),
        ("ZEROCOPY_PORT_8443_TCP_ADDRESS", "10.96.7.1"),
        ("PORT", "tcp://10.96.7.1:8443"),
    ],
)
def test_load_variable_that_is_nearly_a_services_is_refused(name: str, text: str) -> None:
    """A mistyped option still stops the start."""
    with pytest.raises(ConfigError, match=name):
        load(environ={name: text})


def test_load_variables_of_the_clients_are_passed_over() -> None:
    """Where the server is and with which key to ask is nothing that it reads."""
    environ = {"ZEROCOPY_URL": "https://example.com", "ZEROCOPY_KEY": "zc_1"}
    assert load(environ=environ) == load(environ={})
    assert passed_over(environ) == []


def test_server_beside_a_service_of_its_name_says_what_it_passed_over(tmp_path: Path) -> None:
    """One line at level debug: somebody may look for a setting that has no effect."""
    environ = service("ZEROCOPY") | {"ZEROCOPY_LOG_LEVEL": "debug", "ZEROCOPY_URL": "https://a"}
    with ForkedServer(tmp_path, **environ) as server:
        (line,) = server.logged("variables_passed_over")
    assert line["level"] == "debug"
    assert sorted(line["names"]) == sorted(service("ZEROCOPY"))
