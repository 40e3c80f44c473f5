"""`workbench models`: what a run can begin from, and what a profile would need with each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from engine import gpu, profile_file
from engine.bases import Base, bases
from engine.fit import cards
from engine.fit.alternatives import least
from engine.fit.estimate import GpuFit, this_cpu
from engine.fit.facts import look
from engine.ledger import Ledger
from engine.lineage import grounded
from engine.resolve import cards_for
from screens.widgets import figures
from workbench.cli.output import print_json, print_table, words


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `models` to the command line."""
    parser = commands.add_parser(
        "models",
        help="models that a run can begin from, and what a profile needs with each",
        description="Models in the hub's cache, in folders here, left by runs, and others that are known: size, kind, chat template, what is "
        "gated. With a profile also how much GPU memory it would need with each, estimated.",
    )
    parser.add_argument(
        "profile", nargs="?", metavar="PROFILE", help="a TOML file, or the name of a profile that ships"
    )
    parser.add_argument("--gpu", metavar="NAME", help='a kind of GPU in place of those here, such as "RTX 4090"')
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the models."""
    ledger = Ledger.open(options.ledger, read_only=True) if options.ledger.exists() else None
    found = bases(ledger, Path.cwd())
    needed = _needed(options, ledger, found) if options.profile else {}
    if options.json:
        print_json([_as_json(base, needed.get(base.name)) for base in found])
        return 0
    columns: dict[str, list[str | None]] = {
        "model": [base.name for base in found],
        "size": [figures.parameters(base.parameters) if base.parameters else None for base in found],
        "needs GiB": [
            figures.gib(fit.predicted_process_mib) if (fit := needed.get(base.name)) else None for base in found
        ],
        "fits": [("yes" if fit.fits else "no") if (fit := needed.get(base.name)) else None for base in found],
        "kind": [base.kind for base in found],
        "chat": [None if base.chat is None else "yes" if base.chat else "no" for base in found],
        "disk": [figures.size(base.bytes) if base.bytes else None for base in found],
        "where": ["gated" if base.gated and not base.here else base.where for base in found],
    }
    told = {
        title: cells for title, cells in columns.items() if any(cells)
    }  # of models elsewhere neither template nor size is known
    print_table(list(told), list(zip(*told.values(), strict=True)), right=("size", "needs GiB", "disk"))
    return 0


def _needed(options: argparse.Namespace, ledger: Ledger | None, found: Sequence[Base]) -> dict[str, GpuFit]:
    profile, _ = grounded(profile_file.read(profile_file.find(options.profile)), ledger, [])
    there = (cards.named(options.gpu),) if options.gpu else cards_for(profile, gpu.gpus())
    card = max(there, key=lambda one: one.free_mib, default=None) or this_cpu()
    words(
        f"On {card.name}, {figures.gib(card.free_mib)} GiB free, estimated; data as long as in the profile's own model."
    )
    return least(profile, look(profile, guess=True), card, found)


def _as_json(base: Base, fit: GpuFit | None) -> dict[str, object]:
    return {
        "name": base.name,
        "where": base.where,
        "here": base.here,
        "family": base.family,
        "kind": base.kind,
        "parameters": base.parameters,
        "bytes": base.bytes,
        "context": base.context,
        "chat_template": base.chat,
        "gated": base.gated,
        "quantized": base.quantized,
        "needs_mib": fit.predicted_process_mib if fit else None,
        "fits": fit.fits if fit else None,
    }
