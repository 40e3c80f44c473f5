"""`workbench fit`: will a run fit its GPU, how long will it take, and what to change."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from typing import Final

from engine import compatible, gpu, profile_file
from engine.advice import row_notes
from engine.errors import Problem
from engine.fit.anchored import Anchored
from engine.fit.cards import Card, lacking, named
from engine.fit.estimate import FORMULAS, Estimate, estimate
from engine.fit.facts import Facts, look
from engine.fit.failures import failures
from engine.fit.history import errors, taught
from engine.fit.settling import Waiting, settle, told
from engine.fit.simulator import Simulator
from engine.ledger import Ledger
from engine.lineage import grounded
from engine.profile import Profile
from engine.resolve import cards_for, check_names
from workbench.cli import fit_told
from workbench.cli.output import print_json, words
from workbench.cli.profile_options import add_profile

PATIENCE: Final = 300.0  # seconds for a simulation that somebody asked for


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `fit` to the command line."""
    parser = commands.add_parser(
        "fit",
        help="memory and time of a run on each GPU",
        description="Simulate a run's step for each GPU: how much memory it takes, how long the run will take, and what to change.",
        epilog="Exit codes: 0 it fits one of the GPUs, or what was predicted holds; 1 it fits none, or is off; 2 could not run.",
    )
    add_profile(parser, optional=True)
    parser.add_argument(
        "--gpu",
        action="append",
        default=[],
        metavar="NAME",
        help='a kind of GPU in place of those here, such as "RTX 4090"; may be given several times',
    )
    parser.add_argument("--estimate", action="store_true", help="by formulas and what is known, at once")
    parser.add_argument("--price", type=float, metavar="N", help="of a GPU and hour, to say what the run costs")
    parser.add_argument(
        "--check", metavar="RUN", help="in place of PROFILE: hold what is predicted of a run against what was measured"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what is predicted; 1 when the run fits nowhere."""
    if (options.check is None) == (options.profile is None):
        raise Problem(
            "What is to be fitted?", "It takes a PROFILE, or --check RUN.", "See: workbench fit --help", code="fit"
        )
    if options.check is not None:
        from workbench.cli import fit_check

        return fit_check.run(options)
    if options.price is not None and not options.price >= 0:
        raise Problem(f"--price {options.price:g} is no price", "It is of a GPU and hour, 0 or more.", code="fit")
    kinds = tuple(dict.fromkeys(named(name) for name in options.gpu))
    profile = profile_file.read(profile_file.find(options.profile), options.set)
    notes: list[str] = []
    ledger = Ledger.open(options.ledger) if options.ledger.exists() else None
    profile, _ = grounded(profile, ledger, notes)
    facts = look(profile, guess=True)
    check_names(profile, facts)
    compatible.check(profile.method, facts.config)
    notes += compatible.notes(profile.model, profile.method, facts.config)
    notes += row_notes(profile.training.objective, facts.train_rows, facts.shape.parameters if facts.shape else None)
    if facts.assumed:
        notes.append(facts.assumed)
    cards = kinds or _here(profile, ledger, notes)
    notes += filter(None, dict.fromkeys(lacking(card, profile.model.dtype) for card in cards))
    found = _predicted(profile, facts, cards, notes, at_once=options.estimate)
    past = {fit.name: errors(ledger, fit.name, fit.source) if ledger else None for fit in found.fits}
    if ledger:
        for card in cards:
            notes += [fit_told.failure(failed, card.name) for failed in failures(ledger, profile, card)]
    if options.json:
        print_json(fit_told.as_json(found, past, notes, options.price))
    else:
        fit_told.show(found, past, options.price)
        for note in notes:
            words(note)
        words(fit_told.verdict(found))
    return 0 if any(fit.fits for fit in found.fits) else 1


def _here(profile: Profile, ledger: Ledger | None, notes: list[str]) -> Sequence[Card]:
    """The GPUs of this machine that the profile may use, with what past runs taught of them; none for the CPU."""
    there = gpu.gpus()
    if not there and profile.hardware.device != "cpu":
        notes.append(f'{gpu.why_none()} Predicted for the CPU; for a GPU: --gpu "RTX 4090"')
    found = cards_for(profile, there)
    return tuple(taught(ledger, card, profile) for card in found) if ledger else found


def _predicted(profile: Profile, facts: Facts, cards: Sequence[Card], notes: list[str], *, at_once: bool) -> Estimate:
    """With figures that were simulated, as far as that can be; `at_once` with those that are known, and formulas."""
    with closing(Simulator()) as simulator:
        if at_once:
            return estimate(profile, facts, cards, Anchored(simulator))
        words("Simulating a step ...")
        waiting = Waiting(simulator, PATIENCE)
        problem = settle(lambda: estimate(profile, facts, cards, waiting, climb=False).fits, simulator, PATIENCE)
        if problem:
            notes.append(f"Estimated by formulas, not simulated: {told(problem)}")
        return estimate(profile, facts, cards, FORMULAS if problem and facts.shape else waiting)
