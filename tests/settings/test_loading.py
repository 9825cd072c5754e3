"""`Settings.load`: everything wrong at once, in sentences, whatever the sources hold."""

import re
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr, ValidationError

from service.settings import Settings, SettingsError
from service.settings.forms import Form, is_secret
from service.settings.loading import in_words
from service.settings.sources import env_name
from tests.settings.given import NAMES, SECRETS, attempt, problems, write


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    dotenv = write(tmp_path / "env", "PORTICO_QUEUELIMIT=1\nPORTICO_QUEUE_LIMIT=-1\n")
    told = problems(
        {"PORT": "x", "API_TYPE": "http", "PORTICO_API_KEYS": "a,b", "PORTICO_ALLOWED_ORIGINS": "a,b"}, dotenv
    )
    starts = ["PORTICO_QUEUELIMIT", "API_TYPE", "PORT", *["PORTICO_ALLOWED_ORIGINS"] * 2, *["PORTICO_API_KEYS"] * 2]
    assert sorted(re.split("[ =]", problem)[0] for problem in told) == sorted([*starts, "PORTICO_QUEUE_LIMIT"])


def test_a_refused_port_is_not_compared_with_others() -> None:
    assert len(problems({"PORT": "x", "WEBSOCKET_PORT": "8000"})) == 1


def test_a_secret_that_pydantic_itself_refuses_is_not_quoted() -> None:
    class Strict(BaseModel):
        word: Annotated[SecretStr, Field(min_length=40), Form("40 characters or more")]
        count: Annotated[int, Form("a whole number")]

    values = {"word": "tell-nobody", "count": "x"}
    with pytest.raises(ValidationError) as caught:
        Strict.model_validate(values)
    assert in_words(caught.value, values, Strict.model_fields) == {
        "word": ["word must be 40 characters or more."],
        "count": ["count must be a whole number, but it is 'x'."],
    }


VALUES = st.one_of(
    st.text(max_size=40),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["same", "off", "*", "http", "api", "websocket", "true", "null", "https://", "://[", "a,b", "1/2"]),
    st.from_regex(r"(ws|wss|http|https|redis|unix)://[\[\]:@/#?%.a-z0-9*-]{0,20}", fullmatch=True),
    st.from_regex(r"[0-9a-f:.,/%*]{1,24}", fullmatch=True),
)


VARIABLES = st.one_of(st.sampled_from(NAMES), st.text(max_size=10).map(lambda end: "PORTICO_" + end))


@hypothesis_settings(deadline=None)
@given(st.dictionaries(VARIABLES, VALUES, max_size=8))
@example({"PORTICO_PUBLIC_WEBSOCKET_URL": "ws://℀.com"})
@example({"PORTICO_ALLOWED_ORIGINS": "https://a.com:٣"})
@example({"PORTICO_JWT_SECRET": "0"})
def test_whatever_the_environment_holds_only_sentences_come_out(environ: dict[str, str]) -> None:
    settings, told = attempt(environ)
    if settings is None:
        assert told
    else:
        rows = settings.describe()
        told = [*settings.warnings(), *(row.value for row in rows)]
        # What is shown can be written back, and means the same.
        hidden = (env_name(name) for name, field in Settings.model_fields.items() if is_secret(field))
        masked = (*SECRETS, *hidden, "DYNO")
        again = {row.name: row.value for row in rows if row.value != "(not set)" and row.name not in masked}
        again |= {name: environ[name] for name in masked if name in environ}
        assert Settings.load(again).model_dump() == settings.model_dump()
    for sentence in told:
        assert sentence.isprintable()


def test_the_command_line_wins_and_a_port_typed_there_is_no_platform_s(tmp_path: Path) -> None:
    settings = Settings.load({"PORT": "3000", "ENVIRONMENT": "development"}, overrides={"PORT": "4000"})
    assert (settings.port, settings.source("port")) == (4000, "command line")
    assert Settings.load({}, overrides={"PORT": "4000"}).environment == "development"
    with pytest.raises(SettingsError, match="WEBSOCKET_PORT"):
        Settings.load({}, overrides={"WEBSOCKET_PORT": "many"})
