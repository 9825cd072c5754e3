"""`portico completion`: what a shell reads, and what it then gets to choose from."""

import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from service.cli import main
from tests.cli.running import BARE, PORTICO

SHELLS = {
    "bash": "complete -o nosort -F _portico_completion portico",
    "zsh": "#compdef portico",
    "fish": "--command portico",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script_that_it_can_read(shell: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert SHELLS[shell] in result.stdout
    if (found := shutil.which(shell)) is not None:
        script = tmp_path / "script"
        script.write_text(result.stdout)
        subprocess.run([found, "-n", str(script)], check=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("portico pu", ["plain,push"]),
        ("portico push --dur", ["plain,--durable"]),
        ("portico logout s1 --reason ", ["plain,logout", "plain,revoked"]),
    ],
)
def test_commands_options_and_choices_complete(words: str, found: list[str], tmp_path: Path) -> None:
    env = {"_PORTICO_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    done = subprocess.run(PORTICO, cwd=tmp_path, env=BARE | env, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == found


def test_an_unknown_shell_is_told_which_there_are() -> None:
    result = CliRunner().invoke(main, ["completion", "powershell"])
    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.stderr
