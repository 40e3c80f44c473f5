"""Which template a profile means: the model's own, a built-in one for bases that have none, or a file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from engine import profile
from engine.data.tokenizer import ModelTokenizer
from engine.errors import Problem, closest

# The prompt format of Stanford Alpaca (github.com/tatsu-lab/stanford_alpaca), which many base models were tuned with.
ALPACA: Final = """\
{%- for message in messages -%}
{%- if message.role == 'user' -%}
{%- if messages[0].role == 'system' -%}{{ messages[0].content }}
{%- elif '### Input:' in message.content -%}
Below is an instruction that describes a task, paired with an input that provides further context. \
Write a response that appropriately completes the request.
{%- else -%}
Below is an instruction that describes a task. Write a response that appropriately completes the request.
{%- endif -%}
{{ '\\n\\n### Instruction:\\n' + message.content + '\\n\\n### Response:\\n' }}
{%- elif message.role == 'assistant' -%}
{{ message.content + eos_token + ('' if loop.last else '\\n\\n') }}
{%- endif -%}
{%- endfor -%}"""

# The least that keeps question and response apart.
PLAIN: Final = """\
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
{{ message.content + eos_token + ('' if loop.last else '\\n\\n') }}
{%- else -%}
{{ message.content + '\\n\\n' }}
{%- endif -%}
{%- endfor -%}"""

BUILT_IN: Final = {"alpaca": ALPACA, "plain": PLAIN}


def template_source(template: profile.Template, tokenizer: ModelTokenizer) -> str:
    """The template's text; built-in ones start with BOS where the model is used to one.

    Raises:
        Problem: the model has no template of its own, the file cannot be read, or the name is unknown (code `template`).
    """
    name = template.name
    if name == "chat":
        if tokenizer.chat_template is None:
            raise Problem(
                f"{tokenizer.base} has no chat template",
                "It is a base model that was never taught to chat, or its template is kept elsewhere.",
                "Set template.name = alpaca or plain, or give a .jinja file.",
                code="template",
            )
        return tokenizer.chat_template
    if name in BUILT_IN:
        return ("{{- bos_token -}}" if tokenizer.adds_bos else "") + BUILT_IN[name]
    if not name.endswith(".jinja"):
        known = ("chat", *BUILT_IN)
        raise Problem(
            f"There is no template {name}{closest(name, known)}",
            f"Known are {', '.join(known)}, and .jinja files.",
            code="template",
        )
    try:
        return Path(name).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"The template {name} cannot be read", f"{error}.", code="template") from error
