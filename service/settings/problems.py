"""What the model refuses, in plain sentences: one for each problem, without a secret's value."""

from collections.abc import Mapping

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from .forms import Form, Wrong, quoted


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


def is_secret(field: FieldInfo) -> bool:
    """Whether a field's value must never be shown."""
    return "SecretStr" in str(field.annotation)
