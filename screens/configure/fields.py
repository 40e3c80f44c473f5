"""Values of the profile as they are written in the form, and what a person typed as a value."""

from __future__ import annotations

from collections.abc import Mapping

import tomlkit

from engine.profile_fields import OFF, Field
from engine.profile_file import value_of
from screens.widgets import figures


def shown(value: object) -> str:
    """A value as it is written in the form."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else OFF
    if isinstance(value, float):
        return figures.scientific(value) if 0 < abs(value) < 0.001 else f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {inner}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    return str(value)


def typed(field: Field, text: str) -> object:
    """What a typed text means for a field; None takes the key out, so that the default stands.

    Text that is no TOML value is taken as it is: the profile's own check says what is wrong with it.
    """
    text = text.strip()
    if not text or (field.default == OFF and text == OFF):
        return None
    if field.is_text and not field.is_list:
        return text
    if field.default == {} or isinstance(field.default, Mapping):
        table = value_of(text if text.startswith("{") else f"{{ {text} }}")
        return table if isinstance(table, Mapping) else text
    if field.is_list and not text.startswith("["):
        words = [word.strip() for word in text.split(",") if word.strip()]
        if len(words) == 1 and words[0] in ("auto", "all-linear"):
            return words[0]
        return [int(word) if word.isdigit() else word for word in words]
    return value_of(text)


def editable(field: Field, value: object) -> str:
    """A value as it is put before the cursor to be changed; the default where nothing is set."""
    if value is None:
        value = None if field.default == OFF else field.default
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {tomlkit.item(inner).as_string()}" for key, inner in value.items())
    if isinstance(value, bool):
        return str(value).lower()
    return shown(value)
