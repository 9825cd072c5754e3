"""Every setting of Portico. The environment is read in this package and nowhere else.

The names below are all that other modules may use; the modules of this package are its own affair.
"""

from service.settings.model import Settings
from service.settings.reference import reference_markdown
from service.settings.shown import Row
from service.settings.sources import SettingsError

__all__ = ["Row", "Settings", "SettingsError", "reference_markdown"]
