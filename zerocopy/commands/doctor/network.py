"""What the kernel's TCP settings mean for this server.

Owns the checks of the accept queue, of buffers, of slow start and of congestion control.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy.commands.doctor.finding import Finding, Verdict, ok, size, sysctl, unknown

if TYPE_CHECKING:
    from zerocopy.commands.doctor.host import Host
    from zerocopy.commands.doctor.needs import Needs

WMEM_MAX_BYTES = 4 << 20
"""The largest send buffer that Linux gives by default where there is memory (tcp(7), tcp_wmem)."""

LOWAT_BYTES = 131_072
"""What is proposed as unsent bytes in a socket, to begin with; not measured here."""

IPV4 = "proc/sys/net/ipv4"
CONGESTION = f"{IPV4}/tcp_congestion_control"


def accept_queue(host: Host, needs: Needs) -> Finding:
    """net.core.somaxconn, which cuts [server] backlog."""
    check, most = "accept queue", host.number("proc/sys/net/core/somaxconn")
    if most is None:
        return unknown(check, "net.core.somaxconn")
    found = f"net.core.somaxconn is {most}, [server] backlog {needs.backlog}"
    if most >= needs.backlog:
        return ok(check, found)
    return Finding(
        check,
        Verdict.CHANGE,
        found,
        sysctl("net.core.somaxconn", needs.backlog),
        "a storm of connections fills the shorter queue, and who finds it full tries again "
        "after 1 s, then 2, 4",
        "listen(2); docs/tuning.md, Accept queue",
    )


def syn_queue(host: Host, needs: Needs) -> Finding:
    """net.ipv4.tcp_max_syn_backlog, which matters where SYN cookies are off."""
    check = "half-open connections"
    cookies = host.number(f"{IPV4}/tcp_syncookies")
    most = host.number(f"{IPV4}/tcp_max_syn_backlog")
    if cookies is None or most is None:
        return unknown(check, "net.ipv4.tcp_syncookies or tcp_max_syn_backlog")
    found = f"tcp_syncookies is {cookies}, tcp_max_syn_backlog {most}"
    if cookies:
        return ok(check, f"{found}: a full queue is answered by cookies")
    if most >= needs.backlog:
        return ok(check, found)
    return Finding(
        check,
        Verdict.ADVICE,
        found,
        sysctl("net.ipv4.tcp_syncookies", 1),
        "without cookies the kernel drops new connections while so many are half open",
        "tcp(7)",
    )


def send_buffer(host: Host, _needs: Needs) -> Finding:
    """net.ipv4.tcp_wmem: what may be under way to a client far away."""
    check, bounds = "send buffer", host.numbers(f"{IPV4}/tcp_wmem")
    if bounds is None:
        return unknown(check, "net.ipv4.tcp_wmem")
    least, default, most = bounds
    found = f"net.ipv4.tcp_wmem ends at {size(most)}; the server leaves its sizes to the kernel"
    if most >= WMEM_MAX_BYTES:
        return ok(check, found)
    return Finding(
        check,
        Verdict.ADVICE,
        found,
        sysctl("net.ipv4.tcp_wmem", f"{least} {default} {WMEM_MAX_BYTES}"),
        "a connection has at most this much under way in a round trip, so it bounds the bytes a "
        "second to a client far away",
        "tcp(7)",
    )


def slow_readers(host: Host, needs: Needs) -> Finding:
    """How many clients that do not read fill the memory that TCP may take."""
    check = "memory of TCP"
    pages, bounds = host.numbers(f"{IPV4}/tcp_mem"), host.numbers(f"{IPV4}/tcp_wmem")
    lowat = host.number(f"{IPV4}/tcp_notsent_lowat")
    if pages is None or bounds is None or lowat is None:
        return unknown(check, "net.ipv4.tcp_mem, tcp_wmem or tcp_notsent_lowat")
    most = pages[-1] * host.page_bytes
    clients = most // bounds[-1]
    found = f"{size(most)} (tcp_mem), up to {size(bounds[-1])} a connection (tcp_wmem)"
    if clients >= needs.connections or lowat <= LOWAT_BYTES:
        return ok(check, found)
    return Finding(
        check,
        Verdict.NOTE,
        f"{found}: {clients} readers that stall can fill it",
        sysctl("net.ipv4.tcp_notsent_lowat", LOWAT_BYTES),
        "a socket that already holds so many unsent bytes takes no more",
        "tcp(7); docs/tuning.md, Slow readers",
    )


def slow_start(host: Host, _needs: Needs) -> Finding:
    """net.ipv4.tcp_slow_start_after_idle: kept connections begin anew after a pause."""
    check, value = "slow start after idle", host.number(f"{IPV4}/tcp_slow_start_after_idle")
    control = host.text(CONGESTION)
    if value is None or control is None:
        return unknown(check, "net.ipv4.tcp_slow_start_after_idle or tcp_congestion_control")
    found = f"tcp_slow_start_after_idle is {value}, with {control}"
    if not value or control.startswith("bbr"):
        return ok(check, found)
    return Finding(
        check,
        Verdict.NOTE,
        found,
        sysctl("net.ipv4.tcp_slow_start_after_idle", 0),
        "the congestion window of a kept connection outlives a pause; try it on the paths you have",
        "tcp(7); docs/tuning.md, TCP",
    )


def congestion_control(host: Host, _needs: Needs) -> Finding:
    """Which congestion control the sockets get."""
    check, control = "congestion control", host.text(CONGESTION)
    if control is None:
        return unknown(check, "net.ipv4.tcp_congestion_control")
    if control.startswith("bbr"):
        return ok(check, control)
    return Finding(
        check,
        Verdict.NOTE,
        control,
        sysctl("net.ipv4.tcp_congestion_control", "bbr"),
        "another model of the path; compare on the paths you have, nothing behind a local tunnel",
        "docs/tuning.md, TCP",
    )
