"""Whether what happened in a world is what the contract allows.

Owns the rules: each answer is judged by the states between its request and its head; whoever was
patient got all answers or a reset that a fault explains; nothing is left behind.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from tests.simulation.client import PATIENT, Manners
from tests.simulation.requests import Window
from zerocopy.core import counters as slots

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.simulation.client import Client
    from tests.simulation.requests import Ask
    from tests.simulation.sockets import Mark
    from tests.simulation.world import World


def complaints(world: World) -> list[str]:
    """What is wrong with what the clients saw."""
    return [
        f"client {number} ({client.manners.value}): {complaint}"
        for number, client in enumerate(world.clients)
        for complaint in _of_client(world, client)
    ]


def _of_client(world: World, client: Client) -> Iterator[str]:
    replies = [*client.replies]
    partial = client.partial()
    if partial is not None:
        replies.append(partial)
    ends = _ends_of_heads(client.asks)
    for number, (offset, reply) in enumerate(replies):
        if number >= len(client.asks):
            # A connection that is refused is told so without being asked.
            yield f"answer {reply.status} to nothing"
            return
        ask = client.asks[number]
        if world.shape.crowded and reply.status == 503:
            if reply.closes:
                break
            continue
        window = _window(world, client, ends[number], offset)
        complaint = ask.judge(reply, window)
        if complaint is not None:
            yield f"{ask.kind}: {complaint}"
        if ask.closes and not reply.closes:
            yield f"{ask.kind}: the connection should have been closed"
        if reply.closes and number + 1 < len(replies):
            yield f"{ask.kind}: an answer after the last one"
        if reply.closes:
            break
    yield from _of_end(world, client)


def _of_end(world: World, client: Client) -> Iterator[str]:
    if client.ended is None or client.answered:
        return
    if client.cut_off and client.ended == "end":
        yield "an answer that is short, with a clean end"
    if client.manners not in PATIENT and client.manners is not Manners.LEAVING:
        return
    disturbed = bool(world.kernel.struck) or world.shape.crowded
    if client.cut_off:
        if not disturbed and len(world.files.states) == world.first_states:
            yield "cut off although nothing had changed"
    elif not disturbed:
        missing = len(client.asks) - len(client.replies)
        # A transfer that aborts may not have sent a byte of its head yet.
        if not (client.ended == "reset" and len(world.files.states) > world.first_states):
            yield f"{missing} requests without an answer, {client.ended}"


def _ends_of_heads(asks: Sequence[Ask]) -> list[int]:
    """How many bytes must have come for each request to be answerable."""
    ends, total = [], 0
    for ask in asks:
        ends.append(total + ask.head_nbytes)
        total += len(ask.wire)
    return ends


def _window(world: World, client: Client, end: int, offset: int) -> Window:
    received, sent = client.sock.received, client.sock.sent
    # What can never become a request is refused before the end of its head.
    first = received[min(bisect_left(received, end, key=_total), len(received) - 1)]
    last = sent[bisect_right(sent, offset, key=_total)]
    states = world.files.states[first.version : last.version + 1]
    # Work of other requests may have failed before: what is shared is only looked at since.
    struck = [code for _, _, code in world.kernel.struck[first.faults : last.faults]]
    return Window(states, struck, world.shape.crowded)


def _total(mark: Mark) -> int:
    return mark.total


def leaks(world: World) -> list[str]:
    """What is wrong with a server at rest, all of whose clients are gone."""
    server, loop, kernel = world.server, world.loop, world.kernel
    bodies = server.context.bodies
    connections = world.counters[slots.CONNECTIONS]
    counted, moved = world.counters[slots.SENT_BYTES_SENDFILE], kernel.moved["sendfile"]
    opened, tracked = kernel.count_files(), len(world.open_files)
    rules = {
        f"{opened} files open, {tracked} tracked": opened == tracked,
        f"{tracked} files kept, more than the bound": tracked <= world.shape.open_files_max,
        f"{connections} connections counted, none open": connections == 0,
        f"connections kept: {server.connections._open}": not server.connections._open,
        f"{bodies.segments_held} segments held": bodies.segments_held == 0,
        f"{bodies.count} bodies held": bodies.count == 0,
        f"the event loop waited for pages {world.cache.waited_for}": not world.cache.waited_for,
        "requests in flight": world.service._requests_in_flight == 0,
        f"readers {list(loop.readers)}": not set(loop.readers) - {world.listener.fd},
        f"writers {list(loop.writers)}": not loop.writers,
        f"descriptors that were not open: {kernel.misused}": not kernel.misused,
        f"escaped into the loop: {loop.errors}": not loop.errors,
        f"faults of ours: {world.connection_errors}": not world.connection_errors,
        f"tasks left: {server.connections._tasks}": not server.connections._tasks,
        f"{moved} bytes by sendfile, {counted} counted": moved == counted,
    }
    return [broken for broken, holds in rules.items() if not holds]


def verdict(world: World) -> list[str]:
    """What is left behind after the clients are done: rest, look, drain, look again."""
    world.rest()
    found = leaks(world)
    world.stop()
    if world.kernel.open:
        found.append(f"after the drain: descriptors {world.kernel.open}")
    return found
