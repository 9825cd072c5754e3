"""Where the fuzzing client lives: a Python 2.7 environment of its own, made once and kept.

Knows how to find a Python 2.7 and what to install into it; nothing of the tests. The packages that make masking
quick have to be compiled, so only the long run has them.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
HOME: Final = ROOT / ".venv-autobahn"
WSTEST: Final = HOME / "python2.7" / "bin" / "wstest"
ACCELERATOR: Final = "wsaccel==0.6.6"


class Missing(Exception):
    """The fuzzing client cannot be had; the text is a sentence that says what would help."""


def find_python27() -> Path:
    """A Python 2.7 that runs: $PYTHON27, `python2.7` on PATH, or one of pyenv's. Raises Missing."""
    candidates = [os.environ.get("PYTHON27"), shutil.which("python2.7"), *_of_pyenv()]
    for candidate in candidates:
        if candidate and _is_python27(candidate):
            return Path(candidate)
    raise Missing("Autobahn's fuzzing client needs Python 2.7: put python2.7 on PATH, or its path into PYTHON27.")


def _is_python27(program: str) -> bool:
    # What is on PATH may be a shim that only says which Pythons there are.
    check = "import sys; sys.exit(sys.version_info[:2] != (2, 7))"
    try:
        return subprocess.run([program, "-c", check], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _of_pyenv() -> list[str]:
    pyenv = shutil.which("pyenv")
    if pyenv is None:
        return []
    root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False).stdout.strip()
    return [str(path) for path in sorted(Path(root, "versions").glob("2.7.*/bin/python2.7"))] if root else []


def prepare(*, accelerated: bool) -> Path:
    """The path of `wstest`, installed if need be; `accelerated`: with what has to be compiled. Raises Missing."""
    packages = HOME / "python2.7"
    if not WSTEST.exists():
        python27 = find_python27()
        shutil.rmtree(HOME, ignore_errors=True)
        tools = HOME / "tools"
        # The last virtualenv that makes environments for Python 2.7 runs on Python 3.
        _run(sys.executable, "-m", "venv", "--without-pip", str(tools))
        python3 = str(tools / "bin" / "python")
        _run(sys.executable, "-m", "pip", "--python", python3, "install", "--quiet", "virtualenv<20.22")
        _run(str(tools / "bin" / "virtualenv"), "--quiet", "-p", str(python27), str(packages))
        requirements = str(Path(__file__).with_name("requirements.txt"))
        # Compiled is what is imported, when it is: a tenth of it all.
        _run(str(packages / "bin" / "pip"), "install", "--quiet", "--no-deps", "--no-compile", "-r", requirements)
    if accelerated and not list(packages.glob("lib/python2.7/site-packages/wsaccel-*")):
        _run(str(packages / "bin" / "pip"), "install", "--quiet", ACCELERATOR)
    return WSTEST


def _run(*command: str) -> None:
    # PYTHONPATH would lead Python 2.7 to the packages of this one.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise Missing(f"Autobahn's fuzzing client could not be installed ({last}): see that packages can be fetched.")
