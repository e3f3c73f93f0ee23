"""Commands forked off a process that has imported everything once, for tests that start many.

Owns that process, one for each process of tests: `python -m tests.forkserver`. Of each start of
`zerocopy serve` four fifths are imports, once in the supervisor and once in each worker. Here both
are forks, and all else is as it is: the command line, the environment, the supervisor as the parent
of its workers, orders by pipe, signals, exit codes. So are commands that end by themselves.

What a fork cannot prove is left to `tests.server.RunningServer` and `tests.command_line.run`, which
execute the command: that a start imports what it needs, survives any standard stream, signal and
directory, and that a worker inherits nothing but what it is told.

Protocol: one packet asks, with environment, arguments and working directory as JSON, the
descriptors of the standard streams and one that the answers are written to: the pid, and later the
wait status.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
from types import SimpleNamespace
from typing import TYPE_CHECKING, NoReturn

from zerocopy.supervise import control

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_ASKED_BYTES_MAX = 65_536
_NUMBER = struct.Struct("=i")
_OF_SUPERVISORS = (
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD,
)  # fmt: skip


# ---- the side of the tests


class Forked:
    """A process of `zerocopy`, with what tests use of `subprocess.Popen`."""

    def __init__(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        streams: Sequence[int],
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        read_at_start = {name for name in environ if name.startswith(("PYTHON", "OPENSSL_"))}
        assert not read_at_start, "a RunningServer would read these"
        self._answers, writing = os.pipe()
        try:
            asked = json.dumps([dict(environ), [*arguments], os.fspath(folder or "/")]).encode()
            assert len(asked) < _ASKED_BYTES_MAX
            socket.send_fds(_fork_server(), [asked], [*streams, writing])
        finally:
            os.close(writing)
        self.returncode: int | None = None
        self.pid = self._read()

    def _read(self) -> int:
        told = os.read(self._answers, _NUMBER.size)
        assert len(told) == _NUMBER.size, "the fork server has died"
        return int(_NUMBER.unpack(told)[0])

    def poll(self) -> int | None:
        """The exit code, or None while it runs; negative is the signal that ended it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs after so many seconds.
        """
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("zerocopy", timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(self._read())
            os.close(self._answers)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


@functools.cache
def _fork_server() -> socket.socket:
    """Start it; what it is asked by. It ends with this process."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.forkserver"],
            env=control.child_environ(),  # as a worker's: OpenSSL reads its file now
            stdin=its.fileno(),
            cwd=os.path.dirname(os.path.dirname(__file__)),  # where `tests` is found
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


# ---- the fork server


def main() -> None:
    """Import what commands do, then fork one for whoever asks, until nobody can."""
    import zerocopy.cli  # noqa: PLC0415
    import zerocopy.commands.serve  # noqa: PLC0415
    import zerocopy.observe.log  # noqa: PLC0415
    import zerocopy.supervise.activation  # noqa: PLC0415
    import zerocopy.supervise.compose_tls  # noqa: PLC0415
    import zerocopy.supervise.supervisor  # noqa: PLC0415
    import zerocopy.supervise.worker  # noqa: PLC0415

    zerocopy.cli.command_line()
    gc.collect()
    gc.freeze()
    # Python 3.12 warns of the supervisor's threads, which the worker has no use for.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    asking = socket.socket(fileno=os.dup(0))
    while True:
        asked, fds, _, _ = socket.recv_fds(asking, _ASKED_BYTES_MAX, 4)
        if not asked:
            _reap()
            return
        if not os.fork():
            asking.close()
            environ, arguments, folder = json.loads(asked)
            _wait_for_command(environ, arguments, folder, fds[:3], fds[3])
        for fd in fds:
            os.close(fd)
        _reap()


def _reap() -> None:
    """Take note of those that have ended: whoever adds up processor time wants theirs as well."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _wait_for_command(
    environ: Mapping[str, str],
    arguments: Sequence[str],
    folder: str,
    streams: Sequence[int],
    answers_fd: int,
) -> NoReturn:
    """Fork the command, tell its pid, and its end when that has come."""
    pid = os.fork()
    if not pid:
        for fd, stream in enumerate(streams):
            os.dup2(stream, fd)
        _keep_only(())
        os.chdir(folder)
        _end_as_python_does(functools.partial(_be_command, environ, arguments))
    os.write(answers_fd, _NUMBER.pack(pid))
    status = os.waitpid(pid, 0)[1]
    with contextlib.suppress(BrokenPipeError):  # the test has ended without it
        os.write(answers_fd, _NUMBER.pack(status))
    os._exit(0)


def _be_command(environ: Mapping[str, str], arguments: Sequence[str]) -> None:
    """`zerocopy`, but for how it starts workers."""
    from zerocopy import cli  # noqa: PLC0415

    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    _open_streams()
    sys.argv = ["zerocopy", *arguments]
    vars(control)["subprocess"] = SimpleNamespace(Popen=_Worker, PIPE=subprocess.PIPE)
    cli.main()


# ---- a supervisor that it has forked


class _Worker:
    """Stands for the `subprocess.Popen` of `start_worker`: it forks instead of executing Python."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        stdin: int,
        pass_fds: Sequence[int],
        bufsize: int,
    ) -> None:
        assert (command, stdin, bufsize) == (control.WORKER_COMMAND, subprocess.PIPE, 0)
        reading, writing = os.pipe()
        # Until they have their default action: ours only count, which a worker would not look at.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_SUPERVISORS)
        try:
            self.pid = os.fork()
            if not self.pid:
                os.dup2(reading, 0)
                _keep_only(pass_fds)
                os.environ.clear()
                os.environ.update(env)
                _forget_supervisor()
                _end_as_python_does(_be_worker)
        except OSError:
            os.close(writing)
            raise
        finally:
            os.close(reading)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.stdin = open(writing, "wb", buffering=0)  # noqa: SIM115 - the generation closes it
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Reap it if it has ended."""
        return self._reap(os.WNOHANG)

    def wait(self) -> int | None:
        """Reap it when it has ended."""
        return self._reap(0)

    def _reap(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _forget_supervisor() -> None:
    """What execve(2) would undo: handlers of signals and at the end, and where its log goes."""
    from structlog._config import BoundLoggerLazyProxy  # noqa: PLC0415 - of the fork server alone

    gc.disable()
    signal.set_wakeup_fd(-1)
    for number in _OF_SUPERVISORS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGCHLD))
    atexit._clear()
    sys.stderr = sys.__stderr__
    for module in list(sys.modules.values()):
        logger = getattr(module, "_log", None)
        if isinstance(logger, BoundLoggerLazyProxy):
            vars(logger).pop("bind", None)  # kept since its first line


def _open_streams() -> None:
    """The standard streams as a new process has them, where no locale is set."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        stream = open(  # noqa: SIM115 - as long as the process
            fd,
            "w" if fd else "r",
            buffering=1 if name == "stderr" else -1,
            encoding="utf-8",
            errors="backslashreplace" if name == "stderr" else "surrogateescape",
            closefd=False,
        )
        vars(sys).update({name: stream, f"__{name}__": stream})


def _be_worker() -> None:
    from zerocopy.supervise import worker  # noqa: PLC0415

    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    worker.main()


# ---- both


def _keep_only(fds: Sequence[int]) -> None:
    """Close all descriptors but these and the standard streams."""
    begin = 3
    for fd in sorted({fd for fd in fds if fd >= begin}):
        os.closerange(begin, fd)
        begin = fd + 1
    os.closerange(begin, max(map(int, os.listdir("/proc/self/fd"))) + 1)


def _end_as_python_does(run: Callable[[], None]) -> NoReturn:
    """Run, and exit without a way back into who has forked."""
    status = 70
    try:
        run()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - told as Python would
        sys.excepthook(*sys.exc_info())
        status = 1
    finally:
        with contextlib.suppress(Exception):
            threading._shutdown()  # type: ignore[attr-defined] # waits for pools of threads
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
