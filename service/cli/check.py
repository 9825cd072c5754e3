"""`portico check`: the settings in force, and whether the gateway would start with them."""

import click

from .settings import load_settings


@click.command()
def check() -> None:
    """Print the settings in force, and what is wrong with them.

    Secrets are masked. Exit code 0 if the gateway would start with them, 2 if not.
    """
    settings = load_settings()
    rows = settings.describe()
    names, values = (max(len(getattr(row, column)) for row in rows) for column in ("name", "value"))
    for row in rows:
        click.echo(f"{row.name:<{names}}  {row.value:<{min(values, 40)}}  {row.origin}")
    for warning in settings.warnings():
        click.echo(f"warning: {warning}")
