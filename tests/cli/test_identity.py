"""The options that say who a client is."""

from typing import Any

import click
import pytest

from portico.wire.messages import IDENTITY_FIELDS, Identity
from service.cli.identity import identity_of, identity_options
from tests.cli.desk import parsed


@click.command()
@identity_options
def somebody(**options: Any) -> None:
    """Nothing is run."""


def test_every_field_has_an_option_and_the_environment_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTICO_TOKEN", "sesame")
    words = [word for name in IDENTITY_FIELDS for word in (f"--{name.replace('_', '-')}", f"my {name}")]
    options = parsed(somebody, *words)
    assert options["token"] == "sesame"
    assert identity_of(options) == Identity(**{name: f"my {name}" for name in IDENTITY_FIELDS})
    assert options == {"token": "sesame"}, "what is left is the command's"
    assert identity_of(parsed(somebody)) == Identity()
