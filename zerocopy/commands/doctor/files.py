"""What the file system of the day files promises.

Owns the checks of the root, its file system, its mount options and its block device.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from zerocopy.commands.doctor.finding import Finding, Verdict, ok, unknown
from zerocopy.core.errors import ConfigError

if TYPE_CHECKING:
    from zerocopy.commands.doctor.host import Host, Mount
    from zerocopy.commands.doctor.needs import Needs

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "lustre", "glusterfs"})
"""File systems that believe for a while what a server told them of a file."""

UNCACHED = frozenset({"noac", "actimeo=0", "cache=none"})
"""Mount options of nfs(5), mount.cifs(8) and 9p under which attributes are asked for each time."""

ATIME_KEPT_DOWN = frozenset({"noatime", "relatime", "ro"})


def data_root(_host: Host, needs: Needs) -> Finding:
    """Whether the root is there and can be read, by whoever asks."""
    check, root = "data root", needs.data_root
    try:
        with os.scandir(root) as entries:
            next(entries, None)
    except OSError as error:
        return Finding(
            check,
            Verdict.CHANGE,
            f"{root}: {error.strerror}",
            "[data] path, or its permissions",
            "as it is every query is answered 500",
            "config.toml",
        )
    return ok(check, root)


def store_cache(_host: Host, needs: Needs) -> Finding:
    """Whether the copies of an object store can carry what they are checked by."""
    check, path = "store cache", needs.cache_path
    if path is None:
        return ok(check, "none: [data] path is a directory")
    place = os.path.abspath(path)
    while not os.path.lexists(place):
        place = os.path.dirname(place)  # it is made at the first start
    try:
        os.getxattr(place, "user.zerocopy.checked")
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return Finding(
                check,
                Verdict.ADVICE,
                f"{path}: no extended attributes",
                "[s3] cache_path on ext4, xfs or btrfs",
                "as it is, each copy is written to the disk at once, and not checked after a start",
                "config.toml",
            )
        if error.errno != errno.ENODATA:
            return unknown(check, path)
    return ok(check, path)


def rollups(_host: Host, needs: Needs) -> Finding:
    """Whether roll-ups can be written, by whoever asks."""
    check, path = "roll-ups", needs.rollup_path
    if path is None:
        return Finding(
            check,
            Verdict.NOTE,
            "kept in memory alone",
            "[rollups] path, then zerocopy rollup",
            "the first bars of years are answered in a tenth of a second after a restart, too",
            "config.toml",
        )
    place = os.path.abspath(path)
    while not os.path.lexists(place):
        place = os.path.dirname(place)  # it is made when the first one is written
    if os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK):
        return ok(check, path)
    return Finding(
        check,
        Verdict.ADVICE,
        f"{place} cannot be written",
        "[rollups] path, or its permissions",
        "what is computed ahead for /api/bars outlives a restart",
        "config.toml",
    )


def key_file(_host: Host, needs: Needs) -> Finding:
    """Whether the file of API keys can be read, and by whom."""
    from zerocopy.access.keys import permission_warning, read_keys

    check, path = "key file", needs.keys_path
    if path is None:
        return ok(check, "none: [auth] keys_path is not set")
    try:
        count = len(read_keys(path))
    except ConfigError as error:
        return Finding(
            check,
            Verdict.CHANGE,
            error.detail,
            "the file, its permissions, or [auth] keys_path",
            "as it is the server does not start",
            "docs/access.md",
        )
    warning = permission_warning(path)
    if warning is None:
        return ok(check, f"{path}: {count:,} keys")
    return Finding(
        check,
        Verdict.ADVICE,
        f"{path} can be read by everybody",
        f"chmod 640 {path}",
        "it holds hashes and no key, but tells who may ask for what",
        "docs/access.md",
    )


def file_system(host: Host, needs: Needs) -> Finding:
    """Its type: whether a change is seen by the next lstat(2), as freshness needs."""
    check, mount = "file system", host.mount_of(os.path.realpath(needs.data_root))
    if mount is None:
        return unknown(check, "the mounts (/proc/PID/mountinfo)")
    found = f"{mount.kind} at {mount.point}"
    if mount.kind in NETWORK and not mount.options & UNCACHED:
        return Finding(
            check,
            Verdict.CHANGE,
            f"{found}, which caches attributes",
            _uncached(mount),
            "answers are as fresh as promised; as it is they may lack for seconds what was "
            "appended, because lstat(2) is answered from a cache",
            "nfs(5), DATA AND METADATA COHERENCE; mount.cifs(8), actimeo",
        )
    if mount.kind.startswith("fuse"):
        return Finding(
            check,
            Verdict.ADVICE,
            found,
            "mount it with attr_timeout=0",
            "a file system in user space says itself how long its attributes are believed",
            "fuse(8)",
        )
    if mount.kind == "overlay":
        return Finding(
            check,
            Verdict.ADVICE,
            found,
            "a volume or a bind mount for the day files",
            "the first append to a file of the lower layer copies all of it; an answer of it "
            "that is being sent may be aborted",
            "Documentation/filesystems/overlayfs.rst",
        )
    return ok(check, found)


def access_times(host: Host, needs: Needs) -> Finding:
    """Whether each read writes an access time."""
    check, mount = "access times", host.mount_of(os.path.realpath(needs.data_root))
    if mount is None:
        return unknown(check, "the mounts (/proc/PID/mountinfo)")
    kept_down = sorted(mount.options & ATIME_KEPT_DOWN)
    if kept_down:
        return ok(check, f"{mount.point} is mounted {', '.join(kept_down)}")
    return Finding(
        check,
        Verdict.ADVICE,
        f"{mount.point} is mounted strictatime",
        f"mount -o remount,noatime {mount.point}",
        "reading a file then writes no inode",
        "mount(8), relatime",
    )


def read_ahead(host: Host, needs: Needs) -> Finding:
    """How much is read ahead of a sequential reader of files that are not in memory."""
    check, mount = "read-ahead", host.mount_of(os.path.realpath(needs.data_root))
    if mount is None:
        return unknown(check, "the mounts (/proc/PID/mountinfo)")
    path = f"sys/class/bdi/{mount.device}/read_ahead_kb"
    amount = host.number(path)
    if amount is None:
        return Finding(check, Verdict.NOTE, f"{mount.kind} has no device that reads ahead")
    found = f"{amount} KiB for {mount.point}"
    return Finding(
        check,
        Verdict.NOTE,
        found,
        f"echo {4 * amount} > /{path}, then measure",
        "matters only while files are not in the page cache; what is right depends on the disk",
        "Documentation/ABI/testing/sysfs-class-bdi",
    )


def _uncached(mount: Mount) -> str:
    option = {"9p": "cache=none", "nfs": "noac", "nfs4": "noac"}.get(mount.kind, "actimeo=0")
    return f"mount -o remount,{option} {mount.point}"
