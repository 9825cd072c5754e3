"""`portico token`: what is made is what a gateway takes, and no secret is read from the command line."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from service.cli import main
from service.core.api_keys import parse_file
from tests.tokens.signing import SECRET, jwk, part, private, public_pem, token

SIGNED = {"PORTICO_JWT_SECRET": SECRET}


def run(*arguments: str, stdin: str = "", env: Mapping[str, str | None] | None = None) -> Result:
    return CliRunner().invoke(main, ["token", *arguments], input=stdin, env=dict(env or {}))


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where no .env is
    for name in ("PORTICO_JWT_SECRET", "GATEWAY_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_a_token_that_was_made_is_one_that_holds() -> None:
    made = run("make", "--user", "ann", "--channel-id", "news", "--channel-id", "team-*", "--ttl", "60",
               "--claim", 'plan="gold"', env=SIGNED)  # fmt: skip
    assert made.exit_code == 0
    held = run("check", "--json", stdin=made.stdout, env=SIGNED)
    assert held.exit_code == 0, held.output
    told = json.loads(held.stdout)
    assert (told["valid"], told["user_id"], told["channel_id"]) == (True, "ann", ["news", "team-*"])
    assert 0 < told["expires_at"] - time.time() <= 60
    shown = json.loads(run("show", "--json", stdin=made.stdout).stdout)
    assert (shown["problems"], shown["claims"]["plan"], shown["header"]["alg"]) == ([], "gold", "HS256")
    assert "ann" in run("show", stdin=made.stdout).stdout
    other = run("check", stdin=made.stdout, env={"PORTICO_JWT_SECRET": "another" + SECRET})
    assert (other.exit_code, "signature" in other.stderr) == (1, True)


@pytest.mark.parametrize("kind", ["RS256", "ES256", "ES512", "Ed25519"])
def test_with_a_key_pair(kind: str, tmp_path: Path) -> None:
    pem = private(kind).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "public.pem").write_bytes(public_pem(kind))
    made = run("make", "--role", "worker", "--key-file", "-", "--json", stdin=pem.decode())
    assert made.exit_code == 0, made.output
    held = run("check", stdin=json.loads(made.stdout)["token"], env={"PORTICO_JWT_PUBLIC_KEYS": "public.pem"})
    assert (held.exit_code, 'role: "worker"' in held.stdout) == (0, True)


def test_what_is_wrong_with_a_token_is_said() -> None:
    now = time.time()
    old = token(exp=now - 7200, nbf=now + 600, sub=None, role="boss")
    shown = run("show", stdin=old)
    assert shown.exit_code == 1
    for sentence in ("It has expired, 2 h ago.", "not valid yet, but in 10 min", "Its role is none of"):
        assert sentence in shown.stdout
    forged = f"{part({'alg': 'none'})}.{part({'sub': 'ann', 'exp': '1'})}."
    problems = json.loads(run("show", "--json", stdin=forged).stdout)["problems"]
    assert [problem.split()[0:2] for problem in problems] == [
        ["Its", "alg"],
        ["It", "is"],
        ["Its", "exp"],
        ["It", "has"],
    ]
    expired = run("check", "--json", stdin=old, env=SIGNED)
    assert (expired.exit_code, json.loads(expired.stdout)["cause"]) == (1, "expired")


@pytest.mark.parametrize("text", ["", "no token", "a.b.c", f"{part([1])}.{part({})}.x"])
def test_what_is_no_token_is_a_sentence(text: str) -> None:
    shown = run("show", stdin=text)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert len(shown.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "stdin", "env", "said"),
    [
        (["make"], "", SIGNED, "give --user"),
        (["make", "--user", "ann"], "", {}, "nothing to sign with"),
        (["make", "--user", "ann"], "", {"PORTICO_JWT_SECRET": "short"}, "at least 32 bytes"),
        (["make", "--user", "ann", "--algorithm", "RS256"], "", SIGNED, "no algorithm for this kind of key"),
        (["make", "--user", "ann", "--claim", "plan"], "", SIGNED, "NAME=JSON"),
        (["make", "--user", "ann", "--key-file", "none.pem"], "", {}, "cannot be read"),
        (["make", "--user", "ann", "--key-file", "-"], public_pem("ES256").decode(), {}, "takes the private one"),
        (["make", "--user", "ann", "--key-file", "-"], "nothing", {}, "no private key"),
        (["make", "--user", "ann", "--key-file", "-"], json.dumps(jwk("ES256")), {}, "takes the private one"),
        (["make", "--user", "u" * 9000], "", SIGNED, "8192 at most"),
        (["check"], "a.b.c", {}, "nothing to check it with"),
        (["check"], "a.b.c", {"PORTICO_JWKS_URL": "http://127.0.0.1:9/keys"}, "cannot be reached"),
        (["key", "--name", "the shop", "--scope", "publish"], "", {}, "letters, digits"),
        (["key", "--name", "shop", "--scope", "all"], "", {}, "--scope"),
        (["check-key"], "a-key-of-somebody", {}, "no API keys to compare with"),
        (["check-key", "--file", "none"], "a-key-of-somebody", {}, "cannot be read"),
    ],
)
def test_wrong_input_is_a_sentence(arguments: list[str], stdin: str, env: dict[str, str], said: str) -> None:
    result = run(*arguments, stdin=stdin, env=env)
    assert result.exit_code == 2
    assert said in result.stderr
    assert SECRET not in result.output


def test_an_api_key_is_told_once_and_its_line_is_what_the_file_has(tmp_path: Path) -> None:
    made = run("key", "--name", "shop", "--scope", "logins", "--scope", "publish")
    secret, line = made.stdout.splitlines()
    assert secret not in line
    assert secret not in made.stderr
    file = tmp_path / "api-keys"
    file.write_text(line + "\n")
    assert [key.name for key in parse_file(file.read_text())] == ["shop"]
    for env in ({"PORTICO_API_KEYS_FILE": str(file)}, {"PORTICO_API_KEYS": line}):
        found = run("check-key", "--json", stdin=secret + "\n", env=env)
        assert json.loads(found.stdout) == {"valid": True, "name": "shop", "scopes": ["publish", "logins"]}
    found = run("check-key", "--file", str(file), env={"GATEWAY_API_KEY": secret})
    assert (found.exit_code, found.stdout) == (0, "shop: publish, logins\n")
    wrong = run("check-key", "--file", str(file), stdin=secret[:-1])
    assert (wrong.exit_code, wrong.stdout) == (1, "")


def test_a_secret_is_made_that_a_gateway_takes() -> None:
    secret = run("secret").stdout.strip()
    assert run("make", "--user", "ann", env={"PORTICO_JWT_SECRET": secret}).exit_code == 0
    assert run("secret").stdout.strip() != secret
