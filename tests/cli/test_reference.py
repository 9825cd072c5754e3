"""The reference of the commands has every command, with every option. (`make docs` writes it anew.)"""

import re
from pathlib import Path

import click

from service.cli import COMMANDS, main

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"


def test_every_command_and_option_is_in_the_reference() -> None:
    sections = dict(re.findall(r"^## ([\w -]+)\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL))
    context = click.Context(main)
    commands = {f"portico {name}": main.get_command(context, name) for name in COMMANDS}
    for name, command in list(commands.items()):
        if isinstance(command, click.Group):
            commands |= {f"{name} {inner}": one for inner, one in command.commands.items()}
    assert sections.keys() == {"Exit codes", *commands}, "run `make docs`"
    for name, command in commands.items():
        assert command is not None
        options = [option for param in command.params if not getattr(param, "hidden", False) for option in param.opts]
        missing = [one for one in options if one.startswith("-") and one not in sections[name]]
        assert not missing, f"{name}: run `make docs`"
