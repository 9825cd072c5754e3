"""Signature: the header by which a receiver knows that the gateway sent a request, and that it isn't an old one again.

`Portico-Signature: t=<Unix seconds>,v1=<hex>`, with HMAC-SHA256 of `t.body` under a shared key. With several keys there
is a `v1` for each, in the order of the setting, so keys are rotated without a gap: add the new one, teach it to the
receivers, take the old one away. A receiver accepts where any `v1` fits and `t` is recent.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

HEADER: Final = "Portico-Signature"


def signature(keys: Sequence[bytes], body: bytes, at: float) -> str:
    """The header's value. `at`: Unix time."""
    moment = str(int(at))
    signed = b"%b.%b" % (moment.encode(), body)
    return ",".join([f"t={moment}", *(f"v1={hmac.new(key, signed, hashlib.sha256).hexdigest()}" for key in keys)])
