"""The settings, as every command that needs them loads them."""

from collections.abc import Mapping

from service.settings import Settings, SettingsError

from .outcomes import WRONG, fail


def load_settings(overrides: Mapping[str, str] | None = None) -> Settings:
    """The settings in force, with `overrides` from the command line. Ends with exit code 2 where they are wrong."""
    try:
        return Settings.load(overrides=overrides)
    except SettingsError as error:
        fail(WRONG, *error.problems)
