"""`python -m service.cli.reference` writes the reference of the commands to standard output."""

import sys
from collections.abc import Iterator
from typing import Final

import click

from . import COMMANDS, main

WIDTH: Final = 100
INTRODUCTION: Final = """# Commands

What `portico COMMAND --help` says, for every command. This page is made from the commands (`make docs`). How they are
used together: [A console, and commands for scripts](../how-to/console.md).

## Exit codes

| code | meaning |
|---|---|
| 0 | success |
| 1 | an error answer: a worker's or a client's error, nobody to kick, no such session; a gateway that failed |
| 2 | something wrong in what was given: arguments, settings, a line of a console |
| 3 | the gateway cannot be reached, or refuses us: no key, a wrong one, sent away |
| 130 | ended by Ctrl-C |
| 143 | a console that was ended by SIGTERM or SIGHUP |

Answers go to standard output, everything else to standard error. With `--json` an answer is a line of JSON, and a list
one line for each of its rows.
"""


def reference_markdown() -> str:
    """The whole page."""
    with _context(main, "portico", None) as top:
        sections = [text for name in COMMANDS for text in _sections(main, name, top)]
    return "\n".join([INTRODUCTION, *sections])


def _sections(group: click.Group, name: str, parent: click.Context) -> Iterator[str]:
    """What a command says, and then its own commands, where it has any."""
    command = group.get_command(parent, name)
    assert command is not None
    with _context(command, name, parent) as context:
        said = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        yield f"## {context.command_path}\n\n```text\n{said}\n```\n"
        if isinstance(command, click.Group):
            for inner in command.list_commands(context):
                yield from _sections(command, inner, context)


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    return click.Context(
        command,
        info_name=name,
        parent=parent,
        help_option_names=["-h", "--help"],
        max_content_width=WIDTH,
        terminal_width=WIDTH,
    )


if __name__ == "__main__":
    sys.stdout.write(reference_markdown())
