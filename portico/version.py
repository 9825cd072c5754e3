"""The version of the package: here, so that it is known without being installed. pyproject.toml reads it too."""

from typing import Final

VERSION: Final = "0.1.0"
