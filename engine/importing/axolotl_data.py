"""axolotl's data sets: paths, splits, and what their `type` says of columns and template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from engine.importing.carrying import Carry, names
from engine.importing.sources import columns, source, split

ALPACA: Final = {"instruction": "instruction", "input": "input", "response": "output"}
TYPES: Final[dict[str, dict[str, str]]] = {
    "alpaca": ALPACA,
    "alpaca_chat": ALPACA,
    "alpaca_w_system": {**ALPACA, "system": "system"},
    "gpteacher": {"instruction": "instruction", "input": "input", "response": "response"},
    "context_qa": {"input": "context", "instruction": "question", "response": "answer"},
}
"""Columns by type."""
TO_PARTS: Final = {
    "field_instruction": "instruction",
    "field_prompt": "instruction",
    "field_input": "input",
    "field_output": "response",
    "field_system": "system",
    "field_chosen": "chosen",
    "field_rejected": "rejected",
}
ROLES: Final = "roles of ShareGPT and OpenAI are read as they are"
READ_AS: Final = {"system", "user", "human", "assistant", "gpt", "model", "tool"}
"""Names of roles that rows may have."""
REASONING: Final = ("reasoning_content", "thinking")
"""Fields that reasoning is read from, and given to templates under."""
NEEDLESS: Final = {
    "ds_type": "the suffix says it",
    "message_field_role": ROLES,
    "message_field_content": ROLES,
    "message_property_mappings": ROLES,
    "conversation": "the base's own chat template is used",
    "field_human": ROLES,
    "field_model": ROLES,
    "preprocess_shards": "it changes no result",
}
UNSUPPORTED: Final = {
    "shards": "a data set is taken whole",
    "shards_idx": "a data set is taken whole",
    "revision": "the newest revision is taken; its fingerprint is kept",
    "trust_remote_code": "data sets never run code here",
    "message_field_training": "turns are not chosen one by one",
    "message_field_training_detail": "turns are not chosen one by one",
    "train_on_eos": "every answer's end is learned",
    "roles": "roles of ShareGPT and OpenAI are read as they are, no others",
    "drop_system_message": "system messages stay",
    "split_thinking": "template.thinking says what becomes of reasoning",
    "field_thinking": "reasoning is read from reasoning_content or thinking",
    "template_thinking_key": "reasoning is given to templates under both usual names",
}


def data_sets(carry: Carry) -> None:
    """Carry all data sets, and the template that they are rendered by."""
    key = "pretraining_dataset" if carry.has("pretraining_dataset") else "datasets"
    given = carry.get(key)
    listed = given if isinstance(given, list) else [given] if given is not None else []
    pretrains = key == "pretraining_dataset"
    for number, one in enumerate(listed):
        if isinstance(one, str):
            one = {"path": one}
        if not isinstance(one, Mapping):
            carry.left(key, "a list of tables is wanted")
            continue
        inner = carry.inside({str(name): value for name, value in one.items()}, f"{key}.{number}")
        pretrains |= _data_set(inner, number, pretrains)
    carry.opened(key)
    if pretrains:
        carry.assumed("training.objective", "pretrain", "plain text is learned from")
    _template(carry)


def _data_set(carry: Carry, number: int, pretrains: bool) -> bool:
    """Carry one; whether it is plain text."""
    to = source(carry, number)
    carry.same("name", f"{to}.subset")
    split(carry, "split", to)
    kind = carry.get("type", "pretrain" if pretrains else None)
    plain = kind in ("completion", "pretrain")
    if isinstance(kind, Mapping):
        _described(carry, kind, to)
    elif plain:
        columns(carry, to, {"text": str(carry.get("field", carry.get("text_column", "text")))})
        carry.same("type", "training.objective", "pretrain")
        for key in ("field", "text_column"):
            carry.same(key, f"{to}.columns", carry.values[f"{to}.columns"])
    elif str(kind).partition(".")[0] in ("chat_template", "sharegpt"):
        _conversations(carry, str(kind), to)
    elif str(kind) in TYPES:
        columns(carry, to, TYPES[str(kind)])
        carry.same("type", f"{to}.columns", TYPES[str(kind)])
    elif kind is not None:
        carry.left("type", "columns are guessed from their names: see data.columns")
    carry.rest(NEEDLESS, UNSUPPORTED)
    return plain


def _conversations(carry: Carry, kind: str, to: str) -> None:
    usual = "conversations" if kind.startswith("sharegpt") else "messages"
    preference = carry.has("field_chosen", "field_rejected")
    found = {"messages": str(carry.get("field_messages", usual))}
    if carry.has("field_tools"):
        found["tools"] = str(carry.get("field_tools"))
    if preference or "training.objective" in carry.values:
        found["chosen"] = str(carry.get("field_chosen", "chosen"))
        found["rejected"] = str(carry.get("field_rejected", "rejected"))
    for key in ("field_messages", "field_tools", "field_chosen", "field_rejected"):
        carry.same(key, f"{to}.columns", found)
    carry.same("type", f"{to}.columns", found)
    if carry.get("roles_to_train") in (["assistant"], ["gpt"], ["assistant", "gpt"]):
        carry.needless("roles_to_train", "that is what loss_on = responses is")
    carry.left("roles_to_train", "the loss counts what assistants say: training.loss_on")
    if carry.get("chat_template") not in (None, "tokenizer_default"):
        carry.changed("chat_template", {}, "the base's own chat template is used: template.name")
    carry.needless("chat_template", "that is template.name = chat")
    roles = carry.get("roles")
    if isinstance(roles, Mapping) and {name for one in roles.values() for name in names(one)} <= READ_AS:
        carry.needless("roles", ROLES)
    for key in ("field_thinking", "template_thinking_key"):
        if carry.get(key) in REASONING:
            carry.needless(key, UNSUPPORTED[key])


def _described(carry: Carry, kind: Mapping[object, object], to: str) -> None:
    """A type that names its columns itself."""
    inner = carry.inside({str(name): value for name, value in kind.items()}, "type")
    found = {part: str(inner.get(key)) for key, part in TO_PARTS.items() if inner.has(key)}
    for key in TO_PARTS:
        inner.same(key, f"{to}.columns", found)
    if inner.has("system_prompt"):
        inner.same("system_prompt", "template.system")
    inner.rest(
        {},
        dict.fromkeys(
            ("format", "no_input_format", "system_format"),
            "rows are rendered by template.name; a .jinja file may say it",
        ),
    )
    carry.opened("type")


def _template(carry: Carry) -> None:
    """One template renders all rows."""
    kinds = [line.value for line in carry.lines if line.key.startswith("datasets.") and line.key.endswith(".type")]
    named = str(carry.get("chat_template", ""))
    file = str(carry.get("chat_template_jinja", ""))
    if file.endswith((".jinja", ".jinja2")):
        carry.same("chat_template_jinja", "template.name", str(carry.folder / file))
    carry.left("chat_template_jinja", "save it as a .jinja file and name that in template.name")
    if named in ("", "tokenizer_default"):
        carry.same("chat_template", "template.name", "chat")
    elif named == "alpaca":
        carry.same("chat_template", "template.name", "alpaca")
    elif named == "jinja" and file:
        carry.needless("chat_template", "chat_template_jinja says it")
    else:
        carry.changed(
            "chat_template",
            {"template.name": "chat"},
            f"the base's own chat template, not axolotl's {named}; a .jinja file may say it",
        )
    if any(kind.startswith("alpaca") for kind in kinds) and not named:
        mixed = len(set(kinds)) > 1
        why = (
            "of the types of your data sets; one template renders all rows" if mixed else "what type: alpaca renders by"
        )
        carry.assumed("template.name", "alpaca", why)
    carry.same("default_system_message", "template.system")
