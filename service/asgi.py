"""The ASGI app: `hypercorn -k trio service.asgi:app`. Settings come from the environment.

What keeps it from starting is a sentence on standard error and exit code 2, for a server that has no trio too.
"""

import sys

from service.collector import without_collections
from service.settings import Settings, SettingsError
from service.standard_streams import open_standard_streams
from service.trio_only import TrioOnly, refuse_asyncio
from service.without_rich import without_rich

open_standard_streams()
refuse_asyncio()

with without_rich(), without_collections():
    from service.app import create_app  # it imports Hypercorn, and asks no question first
    from service.assembly import StartError

try:
    app = create_app(Settings.load())
except SettingsError as error:
    sys.stderr.write("".join(f"portico: {problem}\n" for problem in error.problems))
    raise SystemExit(2) from None
except StartError as error:
    sys.stderr.write(f"portico: {error}\n")
    raise SystemExit(2) from None
# Replacing the bound method is how Quart's documentation says to add a middleware.
app.asgi_app = TrioOnly(app.asgi_app)  # type: ignore[assignment, method-assign]
