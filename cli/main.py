"""The `bindsearch` command: turns options into calls, results into text, errors into one line and an exit code."""

from __future__ import annotations

import atexit
import io
import logging
import os
import signal
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from bindsearch.cli.aliases import current_command
from bindsearch.cli.commands import CommandGroup
from bindsearch.cli.output import print_message
from bindsearch.errors import EXIT_SOME_FAILED, BindSearchError

EXIT_WRONG_USE = 2
EXIT_OTHER_ERROR = 5
EXIT_INTERRUPTED = 130

DEBUG, DEBUG_VARIABLE = "--debug", "BINDSEARCH_DEBUG"
COMPLETION_VARIABLE = "_BINDSEARCH_COMPLETE"
DEBUG_HINT = f"run it again with {DEBUG} for the traceback"

app = typer.Typer(
    name="bindsearch",
    cls=CommandGroup,
    epilog="Example:  bindsearch index ~/Pictures   then:  bindsearch search 'a dog barking'\n\n"
    "Defaults of options come from BINDSEARCH_OPTION in the environment, .bindsearch.toml in the folder or above it, "
    "and the user's file: see bindsearch config show.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": current_command},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from bindsearch import __version__

        typer.echo(f"bindsearch {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
    ),
    debug: bool = typer.Option(  # taken from the command line before it is parsed, wherever it stands
        False, DEBUG, help=f"Print the traceback of an error; also with ${DEBUG_VARIABLE}=1."
    ),
) -> None:
    """Search images, videos, audio, texts, depth maps, thermal images and motion logs with any of them as the query."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 hits or done, 1 no hits, 2 wrong use, 3 some files failed, 4 no store or model, 5 any other error,
    130 interrupted.

    Args:
        arguments: Command-line arguments; None: those of the process.
    """
    codes: list[int] = []
    if arguments is None:
        atexit.register(_end_now, codes)  # before others are registered: they run in reverse order, this one last
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # characters that the terminal cannot show are escaped
            stream.reconfigure(errors="backslashreplace")
    losses = LossHandler()
    logging.getLogger("bindsearch").addHandler(losses)
    signal.signal(signal.SIGTERM, _interrupt)  # not by SIGINT, which jobs in the background may ignore
    words, debug = _take_debug(sys.argv[1:] if arguments is None else arguments)
    caught: BaseException | None = None
    try:
        result = app(words, prog_name="bindsearch", standalone_mode=False)
        code = result if isinstance(result, int) else 0
        if code == 0 and losses.seen:
            code = EXIT_SOME_FAILED
    except BindSearchError as error:
        caught = error
        _complain(" ".join([str(error), *(f"({note})" for note in getattr(error, "__notes__", ()))]))
        code = error.exit_code
    except TyperException as error:
        caught = error
        message = _usage_message(error)
        command = getattr(getattr(error, "ctx", None), "command_path", "bindsearch")
        if message:  # without arguments the help was shown instead
            _complain(f"{message} (see {command} --help)")
        code = EXIT_WRONG_USE
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except SystemExit:  # Typer's answer to a reader that has closed the pipe: it has all it wanted
        code = 0
    except Exception as error:
        from bindsearch.environment import installation_fault

        caught = error
        if isinstance(error, RuntimeError) and str(error) == "Query interrupted":  # DuckDB's form of KeyboardInterrupt
            code = EXIT_INTERRUPTED
        else:
            fault = installation_fault(error)
            hint = "" if debug else f" ({DEBUG_HINT})"
            _complain(f"unexpected {type(error).__name__}: {error}{hint}" if fault is None else str(fault))
            code = EXIT_OTHER_ERROR
    finally:
        logging.getLogger("bindsearch").removeHandler(losses)
    if debug and caught is not None:
        import traceback

        for line in "".join(traceback.format_exception(caught)).splitlines():
            print_message(line)
    if code == EXIT_INTERRUPTED:  # Typer returns it as a result
        _complain("interrupted; committed work is kept, run the same command to resume")
    codes.append(code)
    sys.exit(code)


def _end_now(codes: Sequence[int]) -> None:
    """End the process with a code, if there is one, without unloading libraries, which takes 0.1 s.

    Threads and exit handlers have ended before. If output cannot be written, Python ends as usual.
    """
    if not codes:
        return
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # None if it was closed before the start
                stream.flush()
    except (OSError, ValueError):
        return
    os._exit(codes[0])


class LossHandler(logging.Handler):
    """Print what is logged as lost; other records are ignored, since commands print what is worth a line."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen = False

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record on stderr."""
        self.seen = True
        print_message(f"note: {record.getMessage()}")


def _take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Return the arguments without `--debug`, and whether it is there or its variable is set.

    It stands before or after a command; an argument after "--" is none.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    words = [word for place, word in enumerate(arguments) if place >= end or word != DEBUG]
    is_set = os.environ.get(DEBUG_VARIABLE, "").lower() not in ("", "0", "false", "no", "off")
    return words, is_set or len(words) < len(arguments)


def _usage_message(error: TyperException) -> str:
    """Return the message of an error of the parser, with the nearest names for an unknown one."""
    from bindsearch.arguments import did_you_mean

    message = error.format_message() if hasattr(error, "format_message") else str(error)
    if name := getattr(error, "option_name", None):
        near = did_you_mean(name, getattr(error, "possibilities", None) or ())
        message = f"{error.message}: {near}".rstrip(": ") if near else error.message
    return message.rstrip(".")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _complain(message: str) -> None:
    if os.environ.get(COMPLETION_VARIABLE):  # it would stand in the prompt of a shell that asks for completions
        return
    print_message(f"bindsearch: {message}")
