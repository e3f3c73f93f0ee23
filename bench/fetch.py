"""One body by the protocol that is measured: the proof that all servers give the same bytes.

Owns the plainest clients there are, of HTTP/1.1 and of HTTP/2 over TLS. They measure nothing.
"""

from __future__ import annotations

import http.client
import socket
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes

from bench.clients import ClientError
from tests.certificate import client_context

if TYPE_CHECKING:
    import ssl

    from h2.events import Event

    from bench.peers import Endpoint

TIMEOUT_S = 30.0
WINDOW_BYTES = (1 << 24) - 1
RECV_BYTES = 1 << 18


def fetch(endpoint: Endpoint) -> bytes:
    """The body at `endpoint`, on a connection of its own.

    Raises:
        ClientError: it was not answered by a 200 and its whole body.
    """
    if endpoint.is_tls and endpoint.has_http2:
        return _fetch_http2(endpoint)
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=TIMEOUT_S)
    if endpoint.is_tls:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", endpoint.port, timeout=TIMEOUT_S, context=client_context(["http/1.1"])
        )
    try:
        fields = dict(field.split(": ", 1) for field in endpoint.fields)
        connection.request("GET", endpoint.target, headers=fields)
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise ClientError(f"{endpoint.name}: {error!r}") from error
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK:
        raise ClientError(f"{endpoint.name} answered {response.status} to {endpoint.target}")
    return content


def _fetch_http2(endpoint: Endpoint) -> bytes:
    context = client_context(["h2"])
    try:
        with (
            socket.create_connection(("127.0.0.1", endpoint.port), timeout=TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
        ):
            if sock.selected_alpn_protocol() != "h2":
                raise ClientError(f"{endpoint.name} does not offer HTTP/2")
            return _exchange(sock, endpoint)
    except OSError as error:
        raise ClientError(f"{endpoint.name}: {error!r}") from error


def _exchange(sock: ssl.SSLSocket, endpoint: Endpoint) -> bytes:
    """One request on stream 1 and its whole answer."""
    connection = H2Connection(H2Configuration(client_side=True))
    connection.initiate_connection()
    connection.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES})
    connection.increment_flow_control_window(WINDOW_BYTES)
    fields = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", f"127.0.0.1:{endpoint.port}"),
        (":path", endpoint.target),
        *((name.lower(), value) for name, _, value in (f.partition(": ") for f in endpoint.fields)),
    ]
    connection.send_headers(1, fields, end_stream=True)
    content = bytearray()
    ended = False
    while not ended:
        sock.sendall(connection.data_to_send())
        received = sock.recv(RECV_BYTES)
        if not received:
            raise ClientError(f"{endpoint.name} closed the connection early")
        for event in connection.receive_data(received):
            _check(event, endpoint)
            if isinstance(event, DataReceived) and event.data is not None:
                content += event.data
                connection.acknowledge_received_data(event.flow_controlled_length or 0, 1)
            ended = ended or isinstance(event, StreamEnded)
    return bytes(content)


def _check(event: Event, endpoint: Endpoint) -> None:
    """Raise ClientError where the answer will not be a 200 with its whole body."""
    if isinstance(event, ResponseReceived):
        status = dict(event.headers or [])[b":status"]
        if status != b"200":
            raise ClientError(f"{endpoint.name} answered {status.decode()} to {endpoint.target}")
    elif isinstance(event, StreamReset | ConnectionTerminated):
        raise ClientError(f"{endpoint.name} gave up on {endpoint.target}: {event!r}")
