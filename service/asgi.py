"""The ASGI app: `hypercorn -k trio service.asgi:app`. Settings come from the environment."""

import sys

from service.app import StartError, create_app
from service.settings import Settings, SettingsError

try:
    app = create_app(Settings.load())
except SettingsError as error:
    sys.stderr.write("".join(f"portico: {problem}\n" for problem in error.problems))
    raise SystemExit(2) from None
except StartError as error:
    sys.stderr.write(f"portico: {error}\n")
    raise SystemExit(2) from None
