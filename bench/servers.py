"""The servers of a run: started when a question first needs them, proved to give the same bytes.

Owns which of them are up, all on the first core. It measures nothing.
"""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench.fetch import fetch
from bench.nginx import Nginx
from bench.peers import Endpoint, PythonPeer, StockHypercorn, Uvicorn, missing, pinned, zerocopy

if TYPE_CHECKING:
    from contextlib import ExitStack

    from bench.workload import Workload
    from tests.server import RunningServer

WARM_UP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contest:
    """Whom one question is put to; nginx in every variant, none where it is missing."""

    ours: Endpoint
    nginx: dict[str, Endpoint]
    others: list[Endpoint]
    nbytes: int
    notes: list[str] = field(default_factory=list)


class Servers:
    """Starts what is there on the first of `cores`, and checks that all give the same bytes."""

    def __init__(self, stack: ExitStack, directory: str, workload: Workload) -> None:
        self.cores = frozenset(os.sched_getaffinity(0))
        self.server_core, self.client_core = min(self.cores), max(self.cores)
        self.workload = workload
        self._stack = stack
        self.directory = directory
        self._ours: dict[str, dict[str, Endpoint]] = {}
        self._others: dict[str, list[PythonPeer]] = {}
        self._nginx: Nginx | None = None
        self._proved: dict[tuple[str, str], Contest] = {}

    def contest(self, path: str, size: str) -> Contest:
        """Everyone who answers on that path, with that size."""
        if (path, size) not in self._proved:
            if path not in self._ours:
                self._ours[path] = self._start_zerocopy(path)
                self._others[path] = self._start_others(path)
            self._proved[path, size] = self._prove(path, size)
        return self._proved[path, size]

    def bodies(self) -> dict[str, bytes]:
        """The body of every size, by whichever zerocopy was started first."""
        ours = next(iter(self._ours.values()))
        return {size: fetch(endpoint) for size, endpoint in ours.items()}

    def _prove(self, path: str, size: str) -> Contest:
        """Raise RuntimeError unless all bodies are byte for byte that of zerocopy."""
        ours = self._ours[path][size]
        expected = fetch(ours)
        notes = [
            f"{tool} skipped: {reason}"
            for tool in (Nginx.name, Uvicorn.name)
            if (reason := missing(tool)) is not None
        ]
        contest = Contest(
            ours=ours,
            nginx=self._start_nginx().endpoints(f"{path}-{size}") if not missing("nginx") else {},
            others=[server.endpoint(self.workload.targets[size]) for server in self._others[path]],
            nbytes=len(expected),
            notes=notes,
        )
        for variant, endpoint in contest.nginx.items():
            check_same(expected, endpoint, f" ({variant})")
        for endpoint in contest.others:
            check_same(expected, endpoint)
        return contest

    def _start_zerocopy(self, path: str) -> dict[str, Endpoint]:
        with pinned(self.server_core):
            server = self._stack.enter_context(zerocopy(self.workload.root, is_tls=path == "tls"))
        return warm_endpoints(server, self.workload, is_tls=path == "tls")

    def _start_others(self, path: str) -> list[PythonPeer]:
        kinds: list[type[PythonPeer]] = [StockHypercorn]
        if missing(Uvicorn.name) is None:
            kinds.append(Uvicorn)
        with pinned(self.server_core):
            return [
                self._stack.enter_context(
                    kind(
                        f"{self.directory}/{path}-{kind.__name__}",
                        self.workload.root,
                        is_tls=path == "tls",
                    )
                )
                for kind in kinds
            ]

    def _start_nginx(self) -> Nginx:
        """It serves files with the bodies of ours, on both paths."""
        if self._nginx is None:
            nginx = Nginx(f"{self.directory}/nginx", self.bodies())
            with pinned(self.server_core):
                self._nginx = self._stack.enter_context(nginx)
        return self._nginx


def warm_endpoints(
    server: RunningServer, workload: Workload, *, is_tls: bool, fields: tuple[str, ...] = ()
) -> dict[str, Endpoint]:
    """Where `server` has every size, each asked for until its plan is old enough to be reused."""
    pids = (server.pid, *server.worker_pids())
    endpoints = {
        size: Endpoint("zerocopy", server.port, target, pids, is_tls, fields=fields)
        for size, target in workload.targets.items()
    }
    for endpoint in endpoints.values():
        deadline = time.monotonic() + WARM_UP_TIMEOUT_S
        reused = server.metric("zerocopy_plans_reused_total")
        while server.metric("zerocopy_plans_reused_total") == reused:
            fetch(endpoint)
            if time.monotonic() > deadline:
                raise RuntimeError("zerocopy never reused the plan")
    return endpoints


def check_same(expected: bytes, endpoint: Endpoint, variant: str = "") -> None:
    """Raise RuntimeError unless a body is byte for byte that of zerocopy."""
    if hashlib.sha256(fetch(endpoint)).digest() != hashlib.sha256(expected).digest():
        raise RuntimeError(f"{endpoint.name}{variant} does not give the bytes that zerocopy gives")
