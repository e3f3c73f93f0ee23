"""What a configuration needs of the machine, as numbers.

Owns the derivation from options to needs. It must never look at the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zerocopy.config.descriptors import OWN_DESCRIPTORS, descriptors_kept, live_descriptors
from zerocopy.config.places import rollup_place

if TYPE_CHECKING:
    from zerocopy.config.load import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Numbers are of one worker but for `workers`, which is 0 where there is to be one a core."""

    workers: int
    connections: int
    descriptors: int
    live_descriptors: int
    locked_bytes: int
    mapped_files: int
    plan_cache_bytes: int
    spool_bytes: int
    rollup_bytes: int
    rollup_path: str | None
    watched_directories: int
    backlog: int
    data_root: str
    cache_path: str | None
    keys_path: str | None
    has_tls: bool

    def worker_count(self, processors: int) -> int:
        """How many workers `serve` would start on so many processors."""
        return self.workers or max(1, processors)


def needs_of(config: Config) -> Needs:
    """What `config` needs; memory is mapped and locked for TLS only."""
    has_tls = config.listeners().tls_port is not None
    return Needs(
        workers=config.server.workers,
        connections=config.limits.connections_max,
        descriptors=config.limits.connections_max + descriptors_kept(config) + OWN_DESCRIPTORS,
        live_descriptors=live_descriptors(config),
        locked_bytes=config.memory.locked_bytes_max if has_tls else 0,
        mapped_files=config.memory.mapped_files_max if has_tls else 0,
        plan_cache_bytes=config.memory.plan_cache_bytes_max,
        spool_bytes=0 if config.formats.spool_path else config.formats.spool_bytes_max,
        rollup_bytes=config.rollups.bytes_max,
        rollup_path=rollup_place(config).path,
        watched_directories=config.memory.watched_directories_max,
        backlog=config.server.backlog,
        data_root=config.root,
        cache_path=config.s3.cache_path if config.store_url is not None else None,
        keys_path=config.auth.keys_path,
        has_tls=has_tls,
    )
