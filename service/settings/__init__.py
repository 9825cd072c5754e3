"""Every setting of Portico. The environment is read in this package and nowhere else.

The names below are all that other modules may use; the modules of this package are its own affair.
"""

from .loading import Settings
from .shown import Row, reference_markdown
from .sources import SettingsError

__all__ = ["Row", "Settings", "SettingsError", "reference_markdown"]
