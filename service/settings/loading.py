"""Settings: the model's values, read from their sources once, with every rule checked.

Either everything holds, or one `SettingsError` has a sentence for everything that is wrong. Nothing is read later, so
a running gateway doesn't change when a file or a variable does.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import PrivateAttr, ValidationError
from pydantic.fields import FieldInfo

from .forms import Form, Wrong, is_secret, quoted
from .model import PLATFORM_ROUTER, Values
from .rules import contradictions, plain_ports, warnings
from .shown import Row, rows
from .sources import SettingsError, Source, collect, env_name


class Settings(Values):
    """Every setting of one process. Made by `load`."""

    _notes: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def load(
        cls,
        environ: Mapping[str, str] | None = None,
        dotenv: Path | None = None,
        overrides: Mapping[str, str] | None = None,
    ) -> Self:
        """Read the settings and check every rule.

        `environ`: the variables; without it, those of the process, and `.env` in the working directory.
        `dotenv`: a file to read beside them. `overrides`: variables from the command line, which win over both;
        a PORT among them was typed by somebody and doesn't make the environment production.
        Raises `SettingsError` with a sentence for everything wrong.
        """
        known = {env_name(name): name for name in cls.model_fields}
        found = collect(environ, dotenv, known)
        values = dict(found.values)
        sources = dict(found.sources)
        if "ENVIRONMENT" not in values and "PORT" in values and sources["PORT"] == "environment":
            values["ENVIRONMENT"], sources["ENVIRONMENT"] = "production", "derived"
        for name, value in (overrides or {}).items():
            values[name], sources[name] = value, "command line"
        if "DYNO" in values and "PORTICO_TRUSTED_PROXIES" not in values:
            values["PORTICO_TRUSTED_PROXIES"] = str(PLATFORM_ROUTER)
            sources["PORTICO_TRUSTED_PROXIES"] = "derived"
        problems = list(found.problems)
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            refused = in_words(error, values, {env: cls.model_fields[name] for env, name in known.items()})
            problems += [sentence for sentences in refused.values() for sentence in sentences]
            # Without what was refused the rest must make sense by itself; then its contradictions are told too.
            settings = cls.model_validate({n: v for n, v in values.items() if n not in refused})
        else:
            refused = {}
        for field, info in cls.model_fields.items():
            by_default: Source = "default" if info.default_factory is None else "derived"
            sources.setdefault(env_name(field), by_default)
        settings._sources.update(sources)
        problems += [sentence for names, sentence in contradictions(settings) if names.isdisjoint(refused)]
        if problems:
            raise SettingsError(problems)
        settings._notes = tuple(warnings(settings, values))
        return settings

    def plain_ports(self) -> list[str]:
        """A sentence for each port that was asked for and speaks no TLS."""
        return list(plain_ports(self))

    def warnings(self) -> list[str]:
        """What is allowed but worth a line at start: one sentence each."""
        return list(self._notes)

    def describe(self) -> list[Row]:
        """The values in force, in the order of the reference; secrets are masked."""
        return list(rows(self))


def in_words(
    error: ValidationError, values: Mapping[str, str], fields: Mapping[str, FieldInfo]
) -> dict[str, list[str]]:
    """The sentences for each variable that was refused, in the order of the fields.

    `values` and `fields` are by the names of the variables, which is how errors name them too.
    """
    sentences: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False, include_input=False):
        name = str(detail["loc"][0])
        # A default that depends on a refused value has no fault of its own.
        if name not in values:
            continue
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, Wrong):
            sentences[name] = [f"{name} {problem}." for problem in cause.problems]
        else:
            form = next(item.words for item in fields[name].metadata if isinstance(item, Form))
            told = "" if is_secret(fields[name]) else f", but it is {quoted(values[name])}"
            sentences[name] = [f"{name} must be {form}{told}."]
    return sentences
