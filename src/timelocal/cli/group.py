"""How the errors of the command read: one message that begins with `error:`, never a traceback."""

from __future__ import annotations

import errno
import os
import re
import sys
import warnings
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from timelocal.cli.exits import INTERRUPTED, MISTAKE
from timelocal.cli.terminal import replace_what_has_no_code, say
from timelocal.errors import TimelocalError, did_you_mean

_TILDE = re.compile(r"^((?:--[\w-]+=)?)(~(?:/.*)?)$", re.DOTALL)


def _at_home(found: re.Match[str]) -> str:
    return found[1] + os.path.expanduser(found[2])


class Group(TyperGroup):
    """Runs a verb. User errors, unusable files and Ctrl-C end in a plain message."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        replace_what_has_no_code()
        if not options.get("standalone_mode", True):
            return super().main(*arguments, **options)
        options["standalone_mode"] = False  # errors are raised, so that they can be reported here
        try:
            code = super().main(*arguments, **options)
        except typer.Abort:
            _end(INTERRUPTED)
        except Exception as error:
            if not hasattr(error, "format_message"):  # no mistake in the words of the command line
                raise
            _tell_misuse(error)
        sys.exit(code if isinstance(code, int) else 0)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """`--out=~/runs` and `'~/runs'` mean the home folder, as where a shell expands them."""
        return super().parse_args(ctx, [_TILDE.sub(_at_home, one) for one in args])

    def invoke(self, ctx: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _tell_warning
                return super().invoke(ctx)
        except TimelocalError as error:
            say(f"error: {error}", err=True)
            raise typer.Exit(MISTAKE) from None
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader has seen enough, as `head` does
                raise
            where = "" if error.filename is None else f"{error.filename}: "
            say(f"error: {where}{error.strerror or error}", err=True)
            raise typer.Exit(MISTAKE) from None
        except KeyboardInterrupt:
            say("\nStopped. Run the same command again to continue from here.", err=True)
            raise typer.Exit(INTERRUPTED) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            near = did_you_mean(args[0], self.commands)
            ctx.fail(f"no command {args[0]!r}. {near}".rstrip())
        return super().resolve_command(ctx, args)


def _tell_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Without the line of code that it comes from, which is none of the user's."""
    say(f"warning: {message}", err=True)


def _tell_misuse(error: Any) -> NoReturn:
    """Report what Typer finds wrong with a command line, and which help to read."""
    ctx = getattr(error, "ctx", None)
    if "NoArgsIsHelp" in type(error).__name__:  # a call without anything: it has printed its help
        say(error.format_message())
        _end(error.exit_code)
    given = getattr(error, "option_name", None)
    if ctx is None:
        say(f"error: {error.format_message()}", err=True)
        _end(error.exit_code)
    text = error.format_message()
    if "NoSuchOption" in type(error).__name__:
        known = [one for parameter in ctx.command.params for one in parameter.opts]
        text = f"no option {given}. {did_you_mean(given, known)}"
    text = f"{text.rstrip(' .')}{'' if text.endswith('?') else '.'}"
    say(f"error: {text} See `{ctx.command_path} --help`.", err=True)
    _end(error.exit_code)


def _end(code: int) -> NoReturn:
    sys.exit(code)
