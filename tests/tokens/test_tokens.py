"""Tokens: what is accepted, and each classical attack refused for its own cause."""

import hashlib
import hmac
import json
from functools import partial
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import OctKey

from portico.wire.faults import PeerFault
from portico.wire.messages import Identity
from service.core.proof import PATTERN_FIELDS, NotProven
from service.tokens import tokens
from service.tokens.keys import Check, KeyRing, public_keys, secret_key
from service.tokens.tokens import MAX_TOKEN, TokenVerifier
from tests.lines import lines_of

from .signing import ALGORITHMS, NOW, SECRET, jwk, part, private, public_pem, signed, signing_key, token


def verifier(*kinds: str, **options: object) -> TokenVerifier:
    ring = KeyRing()
    for kind in kinds or ("HS256",):
        ring = ring.with_more(secret_key(SECRET) if kind[:2] == "HS" else public_keys(public_pem(kind)))
    return TokenVerifier(lambda: ring, wall=lambda: NOW, **options)  # type: ignore[arg-type]  # options of one test


def cause(check: TokenVerifier, text: str) -> str:
    with pytest.raises(NotProven) as refused:
        check.verify(text)
    assert text[:20] not in refused.value.message
    return refused.value.cause


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_every_algorithm(kind: str) -> None:
    proof = verifier(kind).verify(token(kind, jti="t1", iat=NOW - 1, tenant="acme"))
    assert (proof.user_id, proof.role, proof.token_id, proof.tenant) == ("ann", "client", "t1", "acme")
    assert (proof.issued_at, proof.expires_at) == (NOW - 1, NOW + 60)


def test_eddsa_by_its_older_name() -> None:
    text = token("Ed25519")
    header, payload, _ = text.split(".")
    older = part({"alg": "EdDSA"})
    signature = private("Ed25519").sign(f"{older}.{payload}".encode())
    assert verifier("Ed25519").verify(f"{older}.{payload}.{part(signature)}").user_id == "ann"
    assert header != older


def test_claims_that_restrict() -> None:
    proof = verifier().verify(token(client_id="phone-*", channel_id=["news", "team-*"], commands=["echo"]))
    assert proof.fields == {"client_id": ("phone-*",), "channel_id": ("news", "team-*")}
    assert proof.may_use("echo")
    assert not proof.may_use("execute_command")


def test_claims_that_nobody_here_reads_are_no_fault() -> None:
    assert verifier().verify(token(email="ann@example.com", permissions={"a": [1]})).user_id == "ann"


def test_none_is_no_algorithm() -> None:
    for alg in ("none", "None", "NONE", "nOnE"):
        unsigned = f"{part({'alg': alg})}.{part({'sub': 'ann'})}."
        assert cause(verifier("HS256", "RS256"), unsigned) == "algorithm"


@pytest.mark.parametrize("kind", ["RS256", "ES256", "Ed25519"])
def test_a_public_key_is_no_shared_secret(kind: str) -> None:
    """HS/RS confusion: an HMAC made with the text of the public key, which everybody knows."""
    for secret in (public_pem(kind), public_pem(kind).strip(), json.dumps(jwk(kind)).encode()):
        head = f"{part({'alg': 'HS256'})}.{part({'sub': 'ann'})}"
        mac = hmac.new(secret, head.encode(), hashlib.sha256).digest()
        assert cause(verifier(kind), f"{head}.{part(mac)}") == "unknown_key"


def test_another_keys_signature() -> None:
    assert cause(verifier(), token(key=OctKey.import_key("another-secret-of-more-than-32-bytes!!"))) == "signature"


def test_anything_changed_breaks_the_signature() -> None:
    header, payload, signature = token().split(".")
    other = part({"sub": "bob", "exp": NOW + 60})
    assert cause(verifier(), f"{header}.{other}.{signature}") == "signature"
    assert cause(verifier(), f"{header}.{payload}.") == "signature"
    assert cause(verifier(), f"{header}.{payload}.{signature[:-4]}") == "signature"
    assert cause(verifier(), f"{part({'alg': 'HS512'})}.{payload}.{signature}") == "signature"


def test_keys_of_the_tokens_own_are_not_used() -> None:
    """`jwk`, `jku` and `x5c` in a header bring a key along; nobody asks for one."""
    own = OctKey.generate_key(256)
    for header in (
        {"jwk": own.as_dict()},
        {"jku": "http://127.0.0.1:1/keys"},
        {"x5c": ["x"], "x5u": "http://127.0.0.1:1"},
    ):
        assert cause(verifier(), token(key=own, header=dict(header))) == "signature"


@pytest.mark.parametrize("kid", ["nobody", "../../dev/null", "' or 1=1 --", "a" * 256])
def test_unknown_and_hostile_key_ids(kid: str) -> None:
    ring = public_keys(json.dumps({"keys": [jwk("ES256", kid="one")]}).encode())
    asked: list[str | None] = []

    def none_may_come(key_id: str | None) -> bool:
        asked.append(key_id)
        return False

    check = TokenVerifier(lambda: ring, wall=lambda: NOW, on_unknown_key=none_may_come)
    assert cause(check, token("ES256", header={"kid": kid})) == "unknown_key"
    assert asked == [kid]
    assert check.verify(token("ES256", header={"kid": "one"})).user_id == "ann"
    assert asked == [kid]


def test_a_key_id_of_another_form_is_refused() -> None:
    for kid in (7, ["one"], {"a": 1}, "k" * 257):
        head, body, mac = token().split(".")
        assert head
        assert cause(verifier(), f"{part({'alg': 'HS256', 'kid': kid})}.{body}.{mac}") == "claims"


def test_times() -> None:
    check = verifier()
    assert cause(check, token(exp=NOW - 31)) == "expired"
    assert check.verify(token(exp=NOW - 29)).user_id == "ann"
    assert cause(check, token(nbf=NOW + 31)) == "not_yet"
    assert check.verify(token(nbf=NOW + 29)).user_id == "ann"
    assert cause(check, token(iat=NOW + 31)) == "not_yet"
    wrong: list[object] = ["tomorrow", True, [1], {}]
    for exp in wrong:
        assert cause(check, token(exp=exp)) == "claims"
    for number in (b"NaN", b"Infinity", b"1e999", b"9" * 400):
        assert cause(check, signed("HS256", b'{"sub":"ann","exp":' + number + b"}")) == "claims"


def test_issuer_and_audience() -> None:
    check = verifier(issuer="https://id.example.com", audience=("portico", "gw"))
    assert check.verify(token(iss="https://id.example.com", aud="gw")).user_id == "ann"
    assert check.verify(token(iss="https://id.example.com", aud=["other", "portico"])).user_id == "ann"
    assert cause(check, token(aud="gw")) == "issuer"
    assert cause(check, token(iss="https://evil.example.com", aud="gw")) == "issuer"
    assert cause(check, token(iss="https://id.example.com")) == "audience"
    assert cause(check, token(iss="https://id.example.com", aud="other")) == "audience"
    # Who knows no audience of its own is in none.
    assert cause(verifier(), token(aud="gw")) == "audience"


def test_a_claim_twice_is_refused() -> None:
    for payload in (
        b'{"sub":"ann","sub":"bob"}',
        b'{"sub":"ann","\\u0073ub":"bob"}',
        b'{"sub":"ann","exp":1,"exp":9999999999}',
    ):
        assert cause(verifier(), signed("HS256", payload)) == "claims"


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": ["ann"]},
        {"sub": "a" * 257},
        {"sub": "ann\x00"},
        {"sub": "\n"},
        {"sub": "nna\u202e"},
        {"role": "root"},
        {"role": ["admin"]},
        {"channel_id": 7},
        {"channel_id": [""]},
        {"channel_id": ["c"] * 101},
        {"commands": {"echo": True}},
        {"tenant": ["a"]},
        {"jti": 7},
    ],
)
def test_claims_of_a_wrong_form(claims: dict[str, Any]) -> None:
    assert cause(verifier(), token(**claims)) == "claims"


CLAIMS = tuple(field.name for field in msgspec.structs.fields(tokens._Claims))


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_that_is_null_is_refused(claim: str) -> None:
    # Absent it would restrict nothing, or never end: whoever signed this has lost what it was to say.
    claims = {"sub": "ann", "role": "worker"} | {claim: None}
    assert cause(verifier(audience=["gw"]), signed("HS256", json.dumps(claims).encode())) == "claims"
    with pytest.raises(NotProven):
        tokens.read_claims(json.dumps(claims).encode())


@pytest.mark.parametrize("claim", CLAIMS)
def test_any_claim_twice_is_refused(claim: str) -> None:
    value = "1" if claim in ("exp", "nbf", "iat") else '"client"' if claim == "role" else '"ann"'
    twice = f'{{"{claim}":{value},"{claim}":{value}' + ("}" if claim == "sub" else ',"sub":"ann"}')
    assert cause(verifier(), signed("HS256", twice.encode())) == "claims"


@pytest.mark.parametrize("name", PATTERN_FIELDS)
def test_an_empty_list_allows_nothing_and_an_absent_claim_anything(name: str) -> None:
    asked = Identity(**{"client_id": "c", name: "x"})
    assert getattr(verifier().verify(token()).identity(asked), name) == "x"
    claims: dict[str, Any] = {name: []}
    with pytest.raises(PeerFault) as refused:
        verifier().verify(token(**claims)).identity(asked)
    assert (refused.value.close, refused.value.field) == (4003, name)


def test_an_empty_list_of_commands_covers_none() -> None:
    assert not verifier().verify(token(commands=[])).may_use("echo")
    assert verifier().verify(token()).may_use("echo")


@pytest.mark.parametrize("exp", [True, "1900000000", [], {}, -1, 0, 1e308])
def test_ends_of_every_form(exp: object) -> None:
    text = token(exp=exp)
    if exp == 1e308:
        assert verifier().verify(text).expires_at == 1e308
    else:
        assert cause(verifier(), text) == ("expired" if exp in (-1, 0) else "claims")


@pytest.mark.parametrize("payload", [b"", b"null", b"[]", b'"ann"', b"\xff", b'{"sub":"ann"', b"[" * 5000])
def test_payloads_that_are_no_claims(payload: bytes) -> None:
    assert cause(verifier(), signed("HS256", payload)) == "claims"


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "...", "a.b", "a.b.c.d", "é.é.é", "a b c", "\x00.\x00.\x00", "eyJhbGciOiJIUzI1NiJ9..", "====.x.y"],
)
def test_what_is_no_token(text: str) -> None:
    with pytest.raises(NotProven):
        verifier().verify(text)


def test_a_megabyte_is_not_looked_at() -> None:
    assert cause(verifier(), "a" * (1 << 20)) == "too_long"
    assert cause(verifier(), token(padding="x" * MAX_TOKEN)) == "too_long"


def test_extensions_of_the_format_are_refused() -> None:
    for header in ({"crit": ["b64"], "b64": False}, {"crit": ["exp"]}, {"b64": False}):
        head, body, mac = token().split(".")
        assert head
        assert cause(verifier(), f"{part({'alg': 'HS256', **header})}.{body}.{mac}") == "malformed"


def test_encrypted_tokens_are_refused() -> None:
    assert cause(verifier(), ".".join([part({"alg": "dir", "enc": "A256GCM"}), "", "x", "y", "z"])) == "malformed"


def test_a_secret_beside_public_keys() -> None:
    """Each kind of key checks its own algorithms, also where both are configured."""
    check = verifier("HS256", "RS256")
    assert check.verify(token("HS256")).user_id == "ann"
    assert check.verify(token("RS256")).user_id == "ann"
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert stranger.key_size == 2048
    assert cause(check, token("RS512", key=signing_key("RS256")).replace(".", "!", 1)) == "malformed"


class Counted(KeyRing):
    """A ring that says how many signatures were checked, and how often headers were read for it."""

    asked = 0
    read = 0

    def checks(self, algorithm: str, key_id: str | None) -> tuple[Check, ...]:
        """See KeyRing."""
        self.read += 1

        def counting(check: Check, signed: bytes, signature: bytes) -> bool:
            self.asked += 1
            return check(signed, signature)

        return tuple(partial(counting, check) for check in super().checks(algorithm, key_id))


def counted(*kinds: str) -> Counted:
    return Counted([key for kind in kinds for key in public_keys(public_pem(kind))._all])


def test_a_signature_that_held_is_not_checked_again() -> None:
    ring = counted("Ed25519")
    check = TokenVerifier(lambda: ring, wall=lambda: NOW)
    ann, bob = token("Ed25519"), token("Ed25519", sub="bob")
    assert [check.verify(text).user_id for text in (ann, bob, ann, bob, ann)] == ["ann", "bob", "ann", "bob", "ann"]
    assert ring.asked == 2
    forged = ann[:-8] + "A" * 8
    assert [cause(check, forged) for _ in range(2)] == ["signature"] * 2
    assert ring.asked == 4


def test_a_signature_holds_no_longer_than_its_key() -> None:
    ring = public_keys(public_pem("Ed25519"))
    check = TokenVerifier(lambda: ring, wall=lambda: NOW)
    text = token("Ed25519")
    assert check.verify(text).user_id == "ann"
    ring = public_keys(public_pem("RS256"))
    assert cause(check, text) == "unknown_key"
    assert check.verify(token("RS256")).user_id == "ann"


def test_a_signature_that_held_says_nothing_of_the_time() -> None:
    now = NOW
    ring = secret_key(SECRET)
    check = TokenVerifier(lambda: ring, wall=lambda: now)
    text = token(exp=NOW + 60)
    assert check.verify(text).expires_at == NOW + 60
    now = NOW + 91
    assert cause(check, text) == "expired"
    early = token(nbf=now + 60, exp=now + 100)
    assert cause(check, early) == "not_yet"
    now += 60
    assert check.verify(early).user_id == "ann"


def test_how_many_are_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "REMEMBERED", 8)
    ring = counted("Ed25519")
    check = TokenVerifier(lambda: ring, wall=lambda: NOW)
    many = [token("Ed25519", sub=f"u{number}") for number in range(12)]
    for text in many:
        check.verify(text)
        check.verify(many[0])  # one that keeps coming back stays
    assert ring.asked == 12
    assert len(check._verified) + len(check._verified_before) <= 8
    check.verify(many[1])
    assert ring.asked == 13


def test_a_header_is_read_once_and_one_that_nobody_signed_is_kept_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "HEADERS", 2)
    ring = counted("Ed25519")
    check = TokenVerifier(lambda: ring, wall=lambda: NOW)
    for number in range(3):
        assert check.verify(token("Ed25519", sub=f"u{number}")).user_id == f"u{number}"
    assert ring.read == 1
    for number in range(3):
        header, payload, signature = token("Ed25519", header={"typ": f"{number}"}).split(".")
        assert cause(check, f"{header}.{payload}.{signature[:-8]}AAAAAAAA") == "signature"
    assert len(check._checks) == 1
    # A header that is known helps nobody to a signature.
    header, payload, _ = token("Ed25519").split(".")
    for forged in ("", "A" * 86, "A" * 43):
        assert cause(check, f"{header}.{payload}.{forged}") == "signature"
    for number in range(3):
        check.verify(token("Ed25519", header={"typ": f"{number}"}))
    assert len(check._checks) <= 2
    # Other keys: what is known of headers is theirs no more.
    ring = counted("RS256")
    assert cause(check, token("Ed25519", sub="bob")) == "unknown_key"


def test_claims_that_are_there_once_are_not_mistaken_for_twice_and_the_other_way_round() -> None:
    """Whether a claim comes twice is looked at closely where there are more colons than claims that are read."""
    check = verifier("Ed25519")
    fine = (
        b'{"sub":"ann","iss":"https://login.example"}',
        b'{"sub":"a:b:c","role":"client"}',
        b'{"sub":"ann","email":"x","email":"y"}',
        b'{ "sub" : "ann" , "permissions" : {"sub": 1, "a": {"sub": 2}} }',
    )
    for payload in fine:
        assert check.verify(signed("Ed25519", payload)).role == "client"
    twice = (
        b'{"sub":"ann","sub":"bob"}',
        b'{"sub":"ann","s\\u0075b":"bob"}',
        b'{"sub":"ann","role":"client","role":"client"}',
        b'{"sub":"ann","x":{},"sub":"ann"}',
    )
    for payload in twice:
        assert cause(check, signed("Ed25519", payload)) == "claims"


@pytest.mark.parametrize("kind", ["HS256", "ES256", "Ed25519"])
def test_a_token_that_does_not_hold_is_refused_by_the_same_lines_whoever_it_names(kind: str) -> None:
    check = verifier(kind)
    check.verify(token(kind, sub="ann"))
    ways = []
    # Of who was here and who wasn't, new and seen before, and nearly right.
    for name, ending in (("bob", "AAAAAAAAAA"), ("ann", "AAAAAAAAAA"), ("ann", "AAAAAAAAAA"), ("ann", "AAAAAAAAA_")):
        forged = token(kind, sub=name)[:-10] + ending
        ways.append(lines_of(partial(cause, check, forged)))
    assert all(way == ways[0] for way in ways)
