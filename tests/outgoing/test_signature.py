"""The signature of what the gateway sends, as receivers check it."""

import hashlib
import hmac

from service.outgoing.signature import signature


def test_a_signature_that_anybody_can_check() -> None:
    # The vector of the protocol reference.
    assert signature([b"secret"], b'{"id":"1"}', 1732000000.9) == (
        "t=1732000000,v1=" + hmac.new(b"secret", b'1732000000.{"id":"1"}', hashlib.sha256).hexdigest()
    )
