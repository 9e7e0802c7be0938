"""The Typer application: options common to all commands, error messages and exit codes."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from tio2nn.cli import interrupt
from tio2nn.errors import InputError, Tio2nnError, naming, one_line
from tio2nn.version import __version__

INPUT_ERROR = InputError.exit_code
REPORT = "--report"


# what Typer raises for a command line that it cannot parse
_UnparsableError: type[Any] = typer.BadParameter.__mro__[1]


@contextmanager
def _in_one_line(ctx: Any = None) -> Iterator[None]:
    """End with one line on stderr for a command line that cannot be parsed, as for any other error.

    Args:
        ctx: of the program; an option without its value does not know the command that it follows.
    """
    try:
        yield
    except _UnparsableError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise  # it shows the help
        known = error.ctx or ctx
        command = "tio2nn" if known is None else known.command_path
        if error.ctx is None and ctx is not None and ctx.invoked_subcommand:
            command = f"{command} {ctx.invoked_subcommand}"
        error.message = _own_words(error)
        reason = " ".join(error.format_message().split()).rstrip(".")
        mark = "" if reason.endswith("?") else ";"
        _end(f"{reason}{mark} see {command} --help", error.exit_code)


def _own_words(error: Any) -> str:
    """What the parser of a value says, without the words that Pydantic puts before it for Typer."""
    message: str = error.message
    of_pydantic: Any = getattr(error.__cause__, "errors", list)()
    is_of_parser = bool(of_pydantic) and of_pydantic[0]["type"] == "value_error"
    return message.removeprefix("Value error, ") if is_of_parser else message


class _Commands(TyperGroup):
    """The commands; an option that stands before its command is refused with advice."""

    def get_params(self, ctx: Any) -> list[Any]:
        parameters: list[Any] = super().get_params(ctx)
        for parameter in parameters:
            # Typer's own flags have no default: to convert None, it would load pydantic, which takes as long as a help
            if getattr(parameter, "is_flag", False) and parameter.default is None:
                parameter.default = False
        return parameters

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _in_one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _in_one_line(ctx):
            return super().invoke(ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {word for parameter in self.get_params(ctx) for word in parameter.opts}
        option = next((word for word in args if word not in own), "").partition("=")[0]
        if option.startswith("-") and any(
            option in parameter.opts for command in self.commands.values() for parameter in command.params
        ):
            ctx.fail(f"No such option: {option} (options stand after the command)")
        return super().parse_args(ctx, args)


class _Command(TyperCommand):
    """A command whose option `--report` may stand alone.

    Typer has no options with a value that may be missing. Only a word that ends in `.html` is the value, so that a
    structure file behind the option is never taken for the page to write; a word that can be neither is refused.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = args[: args.index("--")] if "--" in args else args
        if not any(REPORT in parameter.opts for parameter in self.get_params(ctx)):
            words = []  # none of them is looked at
        for k, word in enumerate(words):
            following = "".join(words[k + 1 : k + 2])
            if word == REPORT and not following.lower().endswith(".html"):
                if _can_be_no_source(following) and not ctx.resilient_parsing:
                    ctx.fail(f"{REPORT}: expected a file named *.html, got {following!r}")
                words[k] = f"{REPORT}="
        words += args[len(words) :]
        return self._completed(ctx, words) if ctx.resilient_parsing else super().parse_args(ctx, words)

    def _completed(self, ctx: Any, words: list[str]) -> list[str]:
        """Parse what stands before the word that a shell completes; return what is left.

        Completion asks which options are given, not for their values. Typer would convert these, for which it
        loads pydantic.
        """
        given, ctx.args, _ = self.make_parser(ctx).parse_args(args=words)
        for parameter in self.get_params(ctx):
            ctx.params[parameter.name], source = parameter.consume_value(ctx, given)
            ctx.set_parameter_source(parameter.name, source)
        left: list[str] = ctx.args
        return left


def _can_be_no_source(word: str) -> bool:
    """Whether a word is no option, and neither names nor matches structure files."""
    if not word or word.startswith("-"):
        return False
    is_document = word.lower().endswith(_OF_DOCUMENTS)
    return is_document or not (os.path.lexists(word) or any(sign in word for sign in "*?["))


_OF_DOCUMENTS = (".htm", ".xhtml", ".pdf", ".md", ".rst", ".tex", ".docx", ".png", ".svg")

app = typer.Typer(
    cls=_Commands,
    name="tio2nn",
    help="From a folder of quantum-mechanical structures to a Behler-Parrinello neural-network potential.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Command = TypeVar("Command", bound=Callable[..., Any])
_debug = False


def command(function: Command) -> Command:
    """Register a command; an error prints one line on stderr and sets the exit code, see `tio2nn.errors`.

    A function that returns False could not use some of its input (exit code 3).
    """

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            good = function(*args, **kwargs)
            # detect a closed pipe or a full disk here, not when Python shuts down
            with naming("stdout"):
                sys.stdout.flush()
        except KeyboardInterrupt:
            _end_interrupted()
        except BrokenPipeError:
            # the reader of the pipe, such as head, has closed it
            _drop_stdout()
            raise typer.Exit(0) from None
        except Tio2nnError as error:
            _end(str(error), error.exit_code, error)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            missing = isinstance(error, FileNotFoundError)
            reason = "no such file or folder" if missing else error.strerror or error
            _end(f"{place}{reason}", INPUT_ERROR, error)
        except typer.Exit:
            raise
        except Exception as error:
            if interrupt.is_cause_of(error):
                _end_interrupted()
            # TensorFlow raises its own class; compare names, so as not to import TensorFlow here
            if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
                _end(f"out of memory: {one_line(error)[:200]}", INPUT_ERROR, error)
            _end(
                f"this is a bug in tio2nn; please report it with the traceback that --debug shows: {error!r}",
                1,
                error,
            )
        else:
            if good is False:
                raise typer.Exit(INPUT_ERROR)

    app.command(cls=_Command)(guarded)
    return function


def _drop_stdout() -> None:
    """Redirect stdout to /dev/null, so that Python can flush it at exit without an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end_interrupted() -> None:
    interrupt.say_once()
    _end(interrupt.MESSAGE, interrupt.EXIT_CODE)


def _end(message: str, code: int, error: BaseException | None = None) -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _drop_stdout()
    if _debug and error is not None:
        raise error
    from tio2nn.cli import console

    with suppress(OSError):  # if stderr is also full, the exit code must suffice
        console.error(message)
    raise typer.Exit(code) from None


def _version(asked: bool) -> None:
    if asked:
        print(f"tio2nn {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    global _debug
    _debug = debug
