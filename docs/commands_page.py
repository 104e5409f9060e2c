"""The page of all commands, `docs/reference/commands.md`, made of what their `--help` says: `make docs`."""

import inspect
import re
from collections.abc import Iterator

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from backbeat.cli.app import app

PAGE = "docs/reference/commands.md"
PROGRAM = "backbeat"

INTRODUCTION = """\
<!-- Made of the help of the commands by `make docs`; change that. -->
# Commands

What `--help` says, of every command. The exit code is 0 where all is well, 1 where it is not, 2 where the command line
was not understood, 130 after Ctrl-C. With `--json`, where there is that option, a command prints JSON to standard
output; progress and next steps go to standard error.
"""


def commands_page() -> str:
    """Return the whole page as Markdown."""
    program = get_command(app)
    everything = list(_walk(program, typer.Context(program, info_name=PROGRAM)))
    overview = [
        f"| [`{context.command_path}`](#{_anchor(context.command_path)}) | {_first_sentence(command)} |\n"
        for command, context in everything
        if not isinstance(command, TyperGroup)
    ]
    head = f"{INTRODUCTION}\n## All of them\n\n| command | what it does |\n|---|---|\n{''.join(overview)}"
    return head + "".join(_section(command, context) for command, context in everything)


def _walk(command: TyperCommand | TyperGroup, context: typer.Context) -> Iterator[tuple[TyperCommand, typer.Context]]:
    """Yield a command and all below it, each with its context; single commands before groups."""
    yield command, context
    if isinstance(command, TyperGroup):
        for name, below in sorted(command.commands.items(), key=lambda item: isinstance(item[1], TyperGroup)):
            if not below.hidden:
                yield from _walk(below, typer.Context(below, info_name=name, parent=context))


def _section(command: TyperCommand, context: typer.Context) -> str:
    # The program, then groups and its own commands, then the commands of a group; those of a group in a group, too.
    level = "##" if isinstance(command, TyperGroup) or context.parent is context.find_root() else "###"
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    records = [
        (parameter.param_type_name, *record)
        for parameter in command.get_params(context)
        if (record := parameter.get_help_record(context)) and record[0] != "--help"
    ]
    rows = [
        f"| `{name}` | {_cell(text)} |\n"
        for kind in ("argument", "option")
        for is_, name, text in records
        if is_ == kind
    ]
    table = f"\n| | |\n|---|---|\n{''.join(rows)}" if rows else ""
    return f"\n{level} {context.command_path}\n\n{_help(command)}\n\n```text\n{usage}\n```\n{table}"


def _help(command: TyperCommand) -> str:
    return inspect.cleandoc(command.help or "")


def _first_sentence(command: TyperCommand) -> str:
    return _cell(_help(command).partition("\n\n")[0])


def _cell(text: str) -> str:
    """Return text on one line, in which no letter outside of code means something to Markdown or to HTML."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([<*])", r"\\\1", part) for part in parts).replace(
        "|", r"\|"
    )


def _anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")
