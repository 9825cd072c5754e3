"""`python -m service.settings` writes the reference of the settings to standard output."""

import sys

from .shown import reference_markdown

if __name__ == "__main__":
    sys.stdout.write(reference_markdown())
