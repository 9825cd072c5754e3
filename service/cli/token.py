"""`portico token`: makes, shows and checks tokens; makes and checks API keys.

Secrets come from the environment, a file or standard input, and never from the command line, where every user of the
machine could read them. Standard output has what was asked for and nothing else, so that it can be piped.
"""

import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from portico.client.errors import printable
from service.core.api_keys import (
    MIN_LENGTH,
    SCOPES,
    ApiKey,
    ApiKeys,
    BadKeyLine,
    Scope,
    digest_of,
    is_line,
    parse_file,
    parse_line,
)
from service.core.proof import PATTERN_FIELDS, ROLES
from service.settings import Settings

from .outcomes import FAILED, WRONG, fail
from .settings import load_settings

SECRET_BYTES: Final = 32
STDIN: Final = "-"
_JSON = click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
_TOKEN_FILE = click.option(
    "--file", "file", metavar="FILE", default=STDIN, help="Where the token is; standard input if absent."
)


@click.group()
def token() -> None:
    """Make, show and check tokens, and make and check API keys.

    \b
    portico token secret > secret                               # for PORTICO_JWT_SECRET
    PORTICO_JWT_SECRET=$(cat secret) portico token make --user ann --ttl 3600
    portico token show < token
    portico token key --name shop --scope publish               # prints the key, and the line for the file
    """


@token.command()
@click.option("--user", metavar="ID", help="Whose it is (sub). A client's token needs one.")
@click.option("--role", type=click.Choice(ROLES), default="client", show_default=True)
@click.option("--ttl", type=click.FloatRange(1, 10 * 365 * 86_400), default=3600.0, show_default=True,
              metavar="SECONDS", help="How long it holds.")  # fmt: skip
@click.option("--not-before", type=float, metavar="SECONDS", help="Holds from so many seconds from now on.")
@click.option("--tenant", metavar="NAME")
@click.option("--client-id", multiple=True, metavar="PATTERN", help="What it may register as; may be repeated.")
@click.option("--node-id", multiple=True, metavar="PATTERN")
@click.option("--domain-id", multiple=True, metavar="PATTERN")
@click.option("--cluster-id", multiple=True, metavar="PATTERN")
@click.option("--channel-id", multiple=True, metavar="PATTERN")
@click.option("--command", "commands", multiple=True, metavar="PATTERN", help="What it may call or serve.")
@click.option("--id", "token_id", metavar="ID", help="By which it can be taken back (jti); random if absent.")
@click.option("--issuer", envvar="PORTICO_TOKEN_ISSUER", show_envvar=True, metavar="TEXT")
@click.option("--audience", envvar="PORTICO_TOKEN_AUDIENCE", show_envvar=True, metavar="TEXT",
              help="For whom; several separated by commas.")  # fmt: skip
@click.option("--claim", "more", multiple=True, metavar="NAME=JSON", help="Any other claim; may be repeated.")
@click.option("--key-file", metavar="FILE", help="The private key (PEM or JWK) to sign with; - for standard input.")
@click.option("--secret-file", metavar="FILE", help="The shared secret to sign with, instead of PORTICO_JWT_SECRET.")
@click.option("--algorithm", metavar="NAME", help="HS256, RS256, ES256, EdDSA or as the key wants it, if absent.")
@click.option("--key-id", metavar="ID", help="Which of the gateway's public keys it is to be checked with (kid).")
@_JSON
def make(**given: Any) -> None:
    """Make a token and print it.

    Signed with the private key of --key-file, else with the shared secret of --secret-file or PORTICO_JWT_SECRET.
    Patterns are exact, or have * for any run of characters.
    """
    from service.tokens.keys import BadKey
    from service.tokens.signing import NotSigned, private_key, shared_secret, sign

    claims = _claims(given)
    try:
        if given["key_file"] is not None:
            key = private_key(_read(given["key_file"]))
        else:
            key = shared_secret(_secret(given["secret_file"]))
        made = sign(claims, key, given["algorithm"], given["key_id"])
    except (BadKey, NotSigned) as error:
        fail(WRONG, str(error))
    if given["as_json"]:
        _print({"token": made, "claims": claims})
    else:
        click.echo(made)


def _claims(given: dict[str, Any]) -> dict[str, object]:
    if given["role"] == "client" and not given["user"]:
        raise click.UsageError("A client's token names its user: give --user.")
    now = time.time()
    claims: dict[str, object] = {
        "sub": given["user"],
        "role": given["role"],
        "iat": int(now),
        "exp": int(now + given["ttl"]),
        "nbf": None if given["not_before"] is None else int(now + given["not_before"]),
        "iss": given["issuer"],
        "aud": _audience(given["audience"]),
        "jti": given["token_id"] or secrets.token_hex(16),
        "tenant": given["tenant"],
    }
    for name in (*PATTERN_FIELDS, "commands"):
        claims[name] = list(given[name]) or None
    for item in given["more"]:
        name, equals, value = item.partition("=")
        try:
            claims[name] = msgspec.json.decode(value.encode())
        except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
            equals = ""
        if not equals:
            raise click.UsageError("A claim is NAME=JSON, such as --claim plan='\"gold\"'.")
    return {name: value for name, value in claims.items() if value is not None}


def _audience(text: str | None) -> str | list[str] | None:
    several = [item for part in (text or "").split(",") if (item := part.strip())]
    return several if len(several) > 1 else next(iter(several), None)


@token.command()
@_TOKEN_FILE
@_JSON
def show(file: str, as_json: bool) -> None:
    """Print what a token says, and what is wrong with it whatever the key.

    Nothing is believed: whether its signature holds, `portico token check` says. Exit code 1 if something is wrong.
    """
    from service.tokens.signing import NotAToken, read_unverified

    now = time.time()
    try:
        read = read_unverified(_text(file), now)
    except NotAToken as error:
        fail(WRONG, str(error))
    if as_json:
        _print({"header": read.header, "claims": read.claims, "problems": read.problems})
    else:
        for name, part in (("header", read.header), ("claims", read.claims)):
            for key, value in part.items():
                click.echo(f"{name}  {printable(key)}: {_shown(key, value)}")
        for problem in read.problems:
            click.echo(f"wrong   {problem}")
    sys.exit(FAILED if read.problems else 0)


@token.command()
@_TOKEN_FILE
@_JSON
def check(file: str, as_json: bool) -> None:
    """Check a token as a gateway with these settings would: PORTICO_JWT_SECRET, PORTICO_JWT_PUBLIC_KEYS,
    PORTICO_JWKS_URL, PORTICO_TOKEN_ISSUER, PORTICO_TOKEN_AUDIENCE.

    Whether it was taken back only a running gateway knows. Exit code 0 if it holds, 1 if not.
    """
    from service.core.proof import NotProven

    shown = _text(file)
    try:
        proof = _verifier(load_settings()).verify(shown)
    except NotProven as refused:
        if as_json:
            _print({"valid": False, "cause": refused.cause, "message": refused.message})
            sys.exit(FAILED)
        fail(FAILED, refused.message)
    told = {
        "valid": True,
        "user_id": proof.user_id,
        "role": proof.role,
        "tenant": proof.tenant,
        "token_id": proof.token_id,
        "expires_at": proof.expires_at,
        **proof.fields,
        "commands": proof.commands,
    }
    if as_json:
        _print(told)
        return
    for name, value in told.items():
        if value is not None and name != "valid":
            click.echo(f"{name}: {_shown(name, value)}")


def _verifier(settings: Settings) -> Any:
    from service.tokens.jwks_endpoint import fetch_keys
    from service.tokens.key_store import KeyStore, TokenRules
    from service.tokens.keys import BadKey, KeyRing

    if settings.jwt_secret is None and settings.jwt_public_keys is None and settings.jwks_url is None:
        fail(WRONG, "There is nothing to check it with: set PORTICO_JWT_SECRET, PORTICO_JWT_PUBLIC_KEYS or "
             "PORTICO_JWKS_URL.")  # fmt: skip
    rules = TokenRules(
        secret=None if settings.jwt_secret is None else settings.jwt_secret.get_secret_value(),
        key_file=None if settings.jwt_public_keys is None else Path(settings.jwt_public_keys),
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        leeway=settings.token_leeway,
    )
    try:
        more = KeyRing() if settings.jwks_url is None else fetch_keys(settings.jwks_url)
        return KeyStore(rules, _Silent(), wall=time.time, more=more).verifier
    except BadKey as bad:
        fail(WRONG, f"The keys cannot be used: {bad}")


class _Silent:
    """Hears how the keys' sources do, and says nothing."""

    def on_keys(self, source: str, count: int) -> None:
        """They are there."""

    def on_key_trouble(self, source: str, problem: str) -> None:
        """It is raised as well."""


@token.command()
def secret() -> None:
    """Make a shared secret for PORTICO_JWT_SECRET (or WEBSOCKET_HANDSHAKE_KEY) and print it."""
    click.echo(secrets.token_urlsafe(48))


@token.command()
@click.option("--name", required=True, metavar="NAME", help="For people and the audit log.")
@click.option("--scope", "scopes", type=click.Choice(SCOPES), multiple=True, required=True,
              help="What it opens; may be repeated.")  # fmt: skip
@_JSON
def key(name: str, scopes: tuple[Scope, ...], as_json: bool) -> None:
    """Make an API key. Prints the key, and below it the line with its hash for PORTICO_API_KEYS_FILE.

    The key is shown this once: the line can't be turned back into it.
    """
    made = f"portico_{secrets.token_urlsafe(SECRET_BYTES)}"
    described = ApiKey(name, frozenset(scopes), digest_of(made))
    try:
        parse_line(described.line)
    except BadKeyLine:
        raise click.UsageError(
            "A name is 1 to 64 letters, digits, dots, hyphens or underscores: give such a --name."
        ) from None
    if as_json:
        _print({"key": made, "line": described.line})
        return
    click.echo(made)
    click.echo(described.line)
    click.echo("Above: the key, for the program that calls; and its line, for the file of the gateway.", err=True)


@token.command("check-key")
@click.option("--file", "file", metavar="FILE", help="The file of keys, instead of those of the settings.")
@click.option("--key-file", metavar="FILE", default=None,
              help="Where the key is; else GATEWAY_API_KEY in the environment, else standard input.")  # fmt: skip
@_JSON
def check_key(file: str | None, key_file: str | None, as_json: bool) -> None:
    """Say whose an API key is, and what it opens: by --file, else by PORTICO_API_KEYS and PORTICO_API_KEYS_FILE.

    Exit code 0 if it is one of them, 1 if not.
    """
    shown = os.environ.get("GATEWAY_API_KEY", "") if key_file is None else ""
    shown = shown or _text(key_file or STDIN)
    found = _keys(file).find(shown)
    if found is None:
        if as_json:
            _print({"valid": False})
            sys.exit(FAILED)
        short = f" (a key has {MIN_LENGTH} characters or more)" if len(shown) < MIN_LENGTH else ""
        fail(FAILED, f"This is none of the API keys{short}.")
    scopes = [scope for scope in SCOPES if scope in found.scopes]
    if as_json:
        _print({"valid": True, "name": found.name, "scopes": scopes})
    else:
        click.echo(f"{found.name}: {', '.join(scopes)}")


def _keys(file: str | None) -> ApiKeys:
    keys: list[ApiKey | str] = []
    if file is None:
        settings = load_settings()
        texts = [secret.get_secret_value() for secret in settings.api_keys]
        keys += [parse_line(text) if is_line(text) else text for text in texts]
        file = settings.api_keys_file
        if file is None and not keys:
            fail(WRONG, "There are no API keys to compare with: set PORTICO_API_KEYS or PORTICO_API_KEYS_FILE.")
    if file is not None:
        try:
            keys += parse_file(_read(file).decode())
        except (BadKeyLine, UnicodeDecodeError) as error:
            fail(WRONG, f"The file of API keys cannot be used: {error}")
    return ApiKeys(keys)


def _secret(file: str | None) -> str:
    if file is not None:
        return _text(file)
    given = os.environ.get("PORTICO_JWT_SECRET") or load_settings().jwt_secret
    if given is None:
        fail(WRONG, "There is nothing to sign with: set PORTICO_JWT_SECRET, or give --secret-file or --key-file.")
    return given if isinstance(given, str) else given.get_secret_value()


def _text(file: str) -> str:
    """One line out of a file or standard input."""
    try:
        return _read(file).decode().strip()
    except UnicodeDecodeError:
        fail(WRONG, f"{_named(file)} is not UTF-8 text.")


def _read(file: str) -> bytes:
    try:
        if file == STDIN:
            if sys.stdin.isatty():
                click.echo("Reading standard input; end it with Ctrl-D.", err=True)
            return sys.stdin.buffer.read()
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no usable path"
        fail(WRONG, f"{_named(file)} cannot be read ({reason}).")


def _named(file: str) -> str:
    return "Standard input" if file == STDIN else printable(repr(file))


def _shown(name: str, value: object) -> str:
    text = printable(msgspec.json.encode(value).decode())
    if name in ("exp", "nbf", "iat", "expires_at") and isinstance(value, int | float) and 0 <= value < 1e11:
        return f"{text} ({time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(value))} UTC)"
    return text


def _print(value: object) -> None:
    click.echo(msgspec.json.encode(value).decode())
