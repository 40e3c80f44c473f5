"""Chat templates compiled as transformers compiles them, without transformers: the same sandbox, filters and globals.

Templates come from strangers, so they run in jinja2's immutable sandbox and see nothing but strings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import lru_cache

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace


class _Generation(Extension):
    """Accepts `{% generation %}` blocks, with which some templates mark what the model says, and passes their text through."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_through"), [], [], body).set_lineno(line)

    def _through(self, caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    """`dict` for templates: callable, without the attributes of the type."""

    def __call__(self, pairs: Iterable[tuple[str, object]] = (), **named: object) -> dict[str, object]:
        return dict(pairs, **named)

    def fromkeys(self, keys: Iterable[str], value: object = None) -> dict[str, object]:
        return dict.fromkeys(keys, value)


class _Namespace(Namespace):
    """`namespace` for templates: refuses names that reach into Python."""

    def __init__(self, pairs: Iterable[tuple[str, object]] = (), /, **named: object) -> None:
        values = dict(pairs, **named)
        for name in values:
            _allowed(name)
        super().__init__(values)

    def __setitem__(self, name: str, value: object) -> None:
        _allowed(name)
        super().__setitem__(name, value)


def _allowed(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a chat template may not store {name!r} in a namespace")


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without jinja2's escaping of HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)


@lru_cache(maxsize=16)
def compiled(source: str) -> jinja2.Template:
    """The template, ready to render.

    Raises:
        jinja2.TemplateSyntaxError: it is not a template.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = _Namespace
    return environment.from_string(source)
