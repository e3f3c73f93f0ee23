"""nginx as a peer: files with the bodies of zerocopy, in the variants operators choose from.

Owns its configuration and everything it writes, in a temporary prefix. Which variant is best is
measured, not believed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from bench.peers import Endpoint, Peer, children_of, free_port
from bench.workload import warm
from tests.certificate import certificate_files

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIANTS_SMALL = {
    "sendfile on, tcp_nopush on": "sendfile on; tcp_nopush on;",
    "sendfile on, tcp_nopush off": "sendfile on; tcp_nopush off;",
    "sendfile off": "sendfile off; tcp_nopush off; output_buffers 1 64k;",
}
"""By what an operator would call them; a copied 4 KB file costs one system call less than a sent
one, so sendfile is not always the best that nginx can do."""

VARIANTS_LARGE = {
    "sendfile on, sendfile_max_chunk 2m (default)": "sendfile on; tcp_nopush on;",
    "sendfile on, sendfile_max_chunk 0": "sendfile on; tcp_nopush on; sendfile_max_chunk 0;",
    "sendfile on, sendfile_max_chunk 1m": "sendfile on; tcp_nopush on; sendfile_max_chunk 1m;",
}

VARIANTS_TLS_SMALL = {
    "defaults": "",
    "http2_chunk_size 16k, output_buffers 1 64k": "http2_chunk_size 16k; output_buffers 1 64k;",
}

VARIANTS_TLS_LARGE = {
    "defaults": "",
    "http2_chunk_size 16k": "http2_chunk_size 16k;",
    "http2_chunk_size 16k, output_buffers 2 256k": ("http2_chunk_size 16k; output_buffers 2 256k;"),
}
"""A frame of 16 KiB is the largest that h2load, curl and browsers accept."""

VARIANTS = {
    "plain-4k": VARIANTS_SMALL,
    "plain-64k": VARIANTS_SMALL,
    "plain-1m": VARIANTS_LARGE,
    "plain-48m": VARIANTS_LARGE,
    "tls-4k": VARIANTS_TLS_SMALL,
    "tls-64k": VARIANTS_TLS_LARGE,
    "tls-1m": VARIANTS_TLS_LARGE,
    "tls-48m": VARIANTS_TLS_LARGE,
}
"""By path and size, which are also the first part of a location's name."""

_CONFIGURATION = """\
{user}
daemon off;
worker_processes {workers};
pid {prefix}/nginx.pid;
error_log {prefix}/error.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    server_tokens off;
    default_type application/octet-stream;
    tcp_nodelay on;
    open_file_cache max=1000 inactive=60s;
    open_file_cache_valid 60s;
    keepalive_requests 1000000000;
    keepalive_time 24h;
    keepalive_timeout 3600s;
    client_body_temp_path {prefix}/client_body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    ssl_protocols TLSv1.3;
    server {{
        listen 127.0.0.1:{port} backlog=1024{reuseport};
        listen 127.0.0.1:{tls_port} ssl http2 backlog=1024{reuseport};
        ssl_certificate {cert_path};
        ssl_certificate_key {key_path};
{locations}
    }}
}}
"""


class Nginx(Peer):
    """nginx in `prefix`, serving a file of every size in every variant."""

    name = "nginx"

    def __init__(self, prefix: str, bodies: Mapping[str, bytes], *, workers: int = 1) -> None:
        super().__init__(prefix)
        os.makedirs(f"{prefix}/www")
        for size, content in bodies.items():
            with open(f"{prefix}/www/{size}.bin", "wb") as file:
                file.write(content)
            warm(file.name)
        self._tls_port = free_port()
        self._workers = workers

    def endpoints(self, question: str) -> dict[str, Endpoint]:
        """Where the file of that path and size is, by variant."""
        path, _, size = question.partition("-")
        port = self._tls_port if path == "tls" else self._port
        pids = (self.pid, *self.worker_pids())
        return {
            variant: Endpoint(
                self.name, port, f"/{question}-{index}/{size}.bin", pids, path == "tls"
            )
            for index, variant in enumerate(VARIANTS[question])
        }

    def worker_pids(self) -> list[int]:
        """The processes that answer."""
        return children_of(self.pid)

    def _command(self) -> list[str]:
        path = f"{self._prefix}/nginx.conf"
        with open(path, "w", encoding="utf-8") as file:
            file.write(self._configuration())
        return ["nginx", "-p", self._prefix, "-c", path]

    def _configuration(self) -> str:
        locations = [
            f"        location /{question}-{index}/ {{ alias {self._prefix}/www/; {directives} }}"
            for question, variants in VARIANTS.items()
            for index, directives in enumerate(variants.values())
        ]
        cert_path, key_path = certificate_files()
        return _CONFIGURATION.format(
            # A worker that changed to another user could not read the temporary directory.
            user="user root;" if os.geteuid() == 0 else "",
            workers=self._workers,
            # Without it whichever worker wakes first takes all connections that wait.
            reuseport=" reuseport" if self._workers > 1 else "",
            prefix=self._prefix,
            port=self._port,
            tls_port=self._tls_port,
            cert_path=cert_path,
            key_path=key_path,
            locations="\n".join(locations),
        )

    def _accepts(self) -> bool:
        return super()._accepts() and len(self.worker_pids()) == self._workers
