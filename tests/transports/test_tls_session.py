"""TLS between two memory BIOs, and what a client's certificate proves."""

from service.transports.tls_session import proof_of


def test_what_a_client_s_certificate_says() -> None:
    told = {
        "subject": ((("organizationName", "Shop"),), (("commonName", "box"),)),
        "notBefore": "Jan  1 00:00:00 2026 GMT",
        "notAfter": "Jan  1 00:00:00 2027 GMT",
        "subjectAltName": (("IP Address", "10.0.0.1"), ("DNS", "*.maths.example.com")),
    }
    proof = proof_of(told, "ab12")
    assert (proof.role, proof.user_id, proof.token_id) == ("worker", None, "sha256:ab12")
    assert (proof.issued_at, proof.expires_at) == (1767225600.0, 1798761600.0)
    # A star in a name is no pattern of ours.
    assert proof.fields == {"client_id": (".maths.example.com", ".maths.example.com/*")}
    assert proof_of({"subject": ((("commonName", "box"),),)}, "").fields == {"client_id": ("box", "box/*")}
    assert proof_of({}, "").fields == {}
