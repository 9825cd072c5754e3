"""Fingerprints: what the nodes of one deployment have in common, so that two on one Redis notice each other.

Of each setting on which nodes must agree there are 16 bits of a digest: enough to see a difference, and too little to
tell anything of a secret. A setting that has no value is left out: a node may not need it.
"""

import hashlib
from typing import Final

from .loading import Settings

SHARED: Final = {
    "ENVIRONMENT": "environment",
    "PORTICO_API_KEYS": "api_keys",
    "WEBSOCKET_HANDSHAKE_KEY": "websocket_handshake_key",
    "PORTICO_AUTH": "auth",
    "PORTICO_JWT_SECRET": "jwt_secret",
    "PORTICO_TOKEN_ISSUER": "token_issuer",
    "PORTICO_TOKEN_AUDIENCE": "token_audience",
    "PORTICO_DUPLICATE_CLIENT": "duplicate_client",
    "PORTICO_HISTORY_LENGTH": "history_length",
    "PORTICO_HISTORY_TTL": "history_ttl",
    "PORTICO_NODE_LEASE": "node_lease",
}
"""The settings on which nodes must agree, by their names in the environment."""


def fingerprints(settings: Settings) -> dict[str, str]:
    """A digest of each."""
    found: dict[str, str] = {}
    for name, attribute in SHARED.items():
        value = getattr(settings, attribute)
        several = value if isinstance(value, tuple | list) else (value,)
        text = "\n".join(sorted(_text(one) for one in several if one is not None))
        if text:
            found[name] = hashlib.sha256(f"{name}\n{text}".encode()).hexdigest()[:4]
    return found


def _text(value: object) -> str:
    secret = getattr(value, "get_secret_value", None)
    return str(secret()) if secret is not None else str(value)
