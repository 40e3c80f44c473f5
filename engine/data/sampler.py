"""Which way of rendering an objective takes."""

from __future__ import annotations

from engine import profile
from engine.data.documents import Documents
from engine.data.mapping import PREFERENCE
from engine.data.render import Renderer
from engine.data.rendered import Sampler
from engine.data.tokenizer import ModelTokenizer


def sampler(
    tokenizer: ModelTokenizer, template: profile.Template, training: profile.Training, max_tokens: int | None = None
) -> Sampler:
    """What makes samples of examples under the profile's objective: plain text needs no template.

    Raises:
        Problem: there is no such template, or it is broken (code `template`).
    """
    if training.objective == "pretrain":
        return Documents(tokenizer, template.too_long, max_tokens)
    # Preferences are about responses: their prompts are never supervised.
    loss_on = "responses" if training.objective in PREFERENCE else training.loss_on
    return Renderer(tokenizer, template, loss_on, max_tokens)
