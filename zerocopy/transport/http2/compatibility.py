"""Whether the installed Hypercorn and h2 are the ones that this package was written for.

Owns the check. `Http2Connection` builds on parts of both that their authors may change; where they
did, the listener offers HTTP/1.1 alone.
"""

from __future__ import annotations

from importlib.metadata import version

from h2.connection import H2Connection
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.protocol.h2 import H2Protocol

HYPERCORN_VERSION = "0.18."
H2_VERSION = "4."

_H2PROTOCOL_NEEDS = (
    "_close_stream", "_create_stream", "_flush", "_handle_events", "_priority_updated",
    "_send_data", "_window_updated", "handle", "initiate", "send_task", "stream_send",
)  # fmt: skip
_TASKGROUP_NEEDS = ("spawn", "spawn_app")
_CONTEXT_NEEDS = ("mark_request", "terminated")
_H2_NEEDS = (
    "_closed_streams", "_frame_dispatch_table", "_handle_data_on_closed_stream",
    "_receive_data_frame", "_receive_frame", "_receive_headers_frame", "_receive_rst_stream_frame",
    "_receive_settings_frame", "_receive_window_update_frame", "_stream_closed_by", "decoder",
    "encoder", "highest_inbound_stream_id", "incoming_buffer", "max_inbound_frame_size",
    "max_outbound_frame_size", "open_inbound_streams", "outbound_flow_control_window",
    "remote_settings", "state_machine", "streams",
)  # fmt: skip


def incompatibility() -> str | None:
    """Why HTTP/2 cannot be spoken with what is installed, or None where it can."""
    for package, wanted in (("hypercorn", HYPERCORN_VERSION), ("h2", H2_VERSION)):
        found = version(package)
        if not found.startswith(wanted):
            return f"{package} {found} is installed, {wanted}x is known"
    for name, owner, needs in (
        ("H2Protocol", H2Protocol, _H2PROTOCOL_NEEDS),
        ("TaskGroup", TaskGroup, _TASKGROUP_NEEDS),
        ("WorkerContext", WorkerContext(None), _CONTEXT_NEEDS),
        ("h2", H2Connection(), _H2_NEEDS),
    ):
        missing = [need for need in needs if not hasattr(owner, need)]
        if missing:
            return f"{name} has no {', '.join(missing)}"
    return None
