"""How a command ends: its exit code, and the sentences on standard error that say why.

The codes are the same for every command: 0 for success, 1 for an error answer, 2 for something wrong in what was
given, 3 for a gateway that cannot be reached or refuses us, 130 after Ctrl-C.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

import click
import trio

from portico.client.errors import BadAddress, ClientError

FAILED: Final = 1
WRONG: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130


def fail(code: int, *sentences: str) -> NoReturn:
    """End with an exit code, having said why: a line for each sentence."""
    for sentence in sentences:
        click.echo(f"portico: {sentence}", err=True)
    sys.exit(code)


def run(program: Callable[[], Awaitable[int]]) -> NoReturn:
    """Run an async program and end with the exit code that it returns, or that its error stands for."""
    try:
        code = trio.run(program)
    except BadAddress as error:
        fail(WRONG, str(error))
    except ClientError as error:
        fail(UNREACHABLE, str(error))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BaseExceptionGroup as group:
        # Ctrl-C is raised in whichever task happens to run, and comes out in the groups of its nurseries.
        if group.split(KeyboardInterrupt)[1] is not None:
            raise
        sys.exit(INTERRUPTED)
    sys.exit(code)
