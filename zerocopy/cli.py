"""The command line: the list of commands, and how an error of any of them reaches the user.

Owns the order of the commands, --version and the exit codes: 0 right, 1 failed, 2 usage. Every
error is one line on standard error. It must never know the options of a command.
"""

# ruff: noqa: FBT001, FBT002 - typer turns boolean parameters into pairs of flags

from __future__ import annotations

import atexit
import gc
import inspect
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zerocopy import __version__
from zerocopy.core.errors import ZerocopyError
from zerocopy.streams import escape_what_has_no_code, fail, open_missing, tell

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = (
    "serve",
    "demo",
    "doctor.doctor",
    "check_config",
    "health",
    "status.status",
    "symbols",
    "query",
    "client.get",
    "client.bars",
    "client.tail",
    "rollup",
    "prefetch",
    "import_",
    "record",
    "verify",
    "generate",
    "certs",
    "keys",
)
"""Modules below zerocopy/commands/, in the order of `zerocopy --help`.

Each module has a function of the same name, which is the command. Its parameters are the options,
its docstring is the help text. Or it has a `typer.Typer` of the same name: commands below it.
"""

# typer carries its own copy of click, whose errors it does not name in public; this is the base
# class of the one it does.
_UsageError: Any = typer.BadParameter.__base__


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zerocopy {__version__}")
        raise typer.Exit


def _root(
    _version_wanted: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    pass


def command_line(arguments: Sequence[str] = ()) -> typer.Typer:
    """The commands; where `arguments` begin with the name of one, that one alone.

    To load them all takes longer than typer itself, and `zerocopy serve` needs none of the others.
    """
    app = typer.Typer(
        name="zerocopy",
        help="Stream columnar market data from day files over HTTP.",
        epilog="Start with `zerocopy demo`: sample data, a running server, URLs to try.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    named = [module for module in COMMANDS if _typed(module) in arguments[:1]]
    for module in named or COMMANDS:
        _add(app, module)
    return app


def _typed(module: str) -> str:
    """The name of one of `COMMANDS`: `check_config` is check-config, and `import_` import."""
    return module.rpartition(".")[2].rstrip("_").replace("_", "-")


def _add(app: typer.Typer, module: str) -> None:
    name = module.rpartition(".")[2]
    function = getattr(import_module(f"zerocopy.commands.{module}"), name)
    if isinstance(function, typer.Typer):
        for command in function.registered_commands:
            command.help = _flowing(command.callback.__doc__ or "") if command.callback else None
        app.add_typer(function, name=name)
        return
    app.command(_typed(module), help=_flowing(function.__doc__ or ""))(function)


def _flowing(text: str) -> str:
    """Each paragraph on one line, for the help to break where the terminal ends."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def main() -> None:
    """Run the command line; the entry point of `zerocopy`.

    What is left at the end goes with the process: the collector need not walk it for circles first,
    which takes a tenth of the processor time of a short command.
    """
    atexit.register(gc.freeze)
    sys.exit(_run())


def _run() -> int:
    """Run the command. Returns the exit code; each command tells an error in one line."""
    try:
        open_missing()
        escape_what_has_no_code()
        status = command_line(sys.argv[1:])(standalone_mode=False)
        sys.stdout.flush()
    except ZerocopyError as error:
        return fail(error)
    except (KeyboardInterrupt, typer.Abort):
        return 1
    except _UsageError as error:
        message = error.format_message()
        # Without any argument the message is the help, many lines long.
        tell(message if "\n" in message else f"zerocopy: {message}")
        return int(error.exit_code)
    except SystemExit as end:
        # typer and rich end so, without a word, when the reader of standard output has gone.
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        return fail(end.__context__)
    except Exception as error:
        if hasattr(sys.stderr, "beneath"):
            raise  # the log has taken over, and tells it
        return fail(error)
    return status if isinstance(status, int) else 0
