"""The version: pyproject.toml reads it here, so that it is known without being installed."""

from typing import Final

VERSION: Final = "0.1.0"
