"""What the tests of the settings share: names, secrets, and short ways to load and to refuse."""

from pathlib import Path

import pytest

from service.settings import Row, Settings, SettingsError

ROOT = Path(__file__).resolve().parent.parent.parent
KEY = "k3y-of-the-shop-4711"
LINE = "shop publish+logins sha256:" + "0f" * 32
PRODUCTION = {"ENVIRONMENT": "production"}
API = {"SERVICE_ROLE": "api", "REDIS_URL": "redis://r"}
WEBSOCKET = {"SERVICE_ROLE": "websocket", "REDIS_HOST": "r"}
NAMES = [row.name for row in Settings.load({}).describe()]
SECRETS = ["PORTICO_API_KEYS", "WEBSOCKET_HANDSHAKE_KEY", "OPEN_API_KEY", "REDIS_URL"]


def problems(environ: dict[str, str], dotenv: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        Settings.load(environ, dotenv)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def row(settings: Settings, name: str) -> Row:
    return next(row for row in settings.describe() if row.name == name)


def attempt(environ: dict[str, str], dotenv: Path | None = None) -> tuple[Settings | None, list[str]]:
    try:
        return Settings.load(environ, dotenv), []
    except SettingsError as error:
        return None, error.problems


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path
