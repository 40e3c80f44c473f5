"""`workbench fit`: will a run fit its GPU, how long will it take, and what to change."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from engine import gpu, profile_file
from engine.errors import Problem
from engine.fit.cards import Card, named
from engine.fit.estimate import Estimate, GpuFit, estimate
from engine.fit.facts import look
from engine.ledger import Ledger
from engine.lineage import grounded
from engine.profile import Profile
from engine.resolve import cards_for
from screens.widgets import figures
from workbench.cli.output import print_json, print_table, words
from workbench.cli.profile_options import add_profile

PARTS = ("weights", "adapter", "gradients", "optimizer", "activations", "logits", "temporaries", "context")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `fit` to the command line."""
    parser = commands.add_parser(
        "fit",
        help="memory and time of a run on each GPU",
        description="Estimate memory and time of a run on each GPU, and say what to change if it does not fit.",
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
    parser.add_argument(
        "--check", metavar="RUN", help="in place of PROFILE: hold what is predicted of a run against what was measured"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the estimate; 1 when the run fits nowhere."""
    if (options.check is None) == (options.profile is None):
        raise Problem(
            "What is to be fitted?", "It takes a PROFILE, or --check RUN.", "See: workbench fit --help", code="fit"
        )
    if options.check is not None:
        from workbench.cli import fit_check

        return fit_check.run(options)
    cards = [named(name) for name in options.gpu]
    profile = profile_file.read(profile_file.find(options.profile), options.set)
    notes: list[str] = []
    if profile.model.base.startswith("run:"):
        profile, _ = grounded(profile, Ledger.open(options.ledger, read_only=True), notes)
    facts = look(profile, guess=True)
    if facts.assumed:
        notes.append(facts.assumed)
    found = estimate(profile, facts, cards or _here(profile, notes))
    if options.json:
        print_json(as_json(found, notes))
    else:
        _print(found)
        for note in notes:
            words(note)
        words(_verdict(found))
    return 0 if any(gpu.fits for gpu in found.fits) else 1


def _here(profile: Profile, notes: list[str]) -> tuple[Card, ...]:
    """The GPUs of this machine that the profile may use; none for the CPU."""
    there = gpu.gpus()
    if not there and profile.hardware.device != "cpu":
        notes.append(f'{gpu.why_none()} Estimated for the CPU; for a GPU: --gpu "RTX 4090"')
    return cards_for(profile, there)


def as_json(found: Estimate, notes: list[str]) -> dict[str, object]:
    """The keys that scripts rely on."""
    return {
        "source": found.source,
        "steps": found.steps,
        "seconds": found.seconds,
        "gpus": [_gpu_json(gpu) for gpu in found.gpus],
        "cpu": _gpu_json(found.cpu) if found.cpu else None,
        "notes": notes,
    }


def _gpu_json(fit: GpuFit) -> dict[str, object]:
    told = asdict(fit)
    told["uuid"] = fit.uuid or None
    del told["question"]
    told["phases"] = {
        phase: {"allocated_mib": most, "reserved_mib": kept} for phase, (most, kept) in fit.phases.items()
    }
    told["predicted"] = {
        "allocated_mib": told.pop("predicted_allocated_mib"),
        "reserved_mib": told.pop("predicted_reserved_mib"),
        "process_mib": told.pop("predicted_process_mib"),
        "parts": told.pop("parts"),
    }
    return told


def _print(found: Estimate) -> None:
    fits = found.fits
    titles = ("gpu", "fits", "needs GiB", "of free", "to spare", "micro-batch", "recompute", "time", "kWh")
    rows = [
        (
            fit.name,
            "yes" if fit.fits else "no",
            figures.gib(fit.predicted_process_mib),
            figures.gib(fit.free_mib),
            figures.gib(fit.headroom_mib),
            fit.micro_batch,
            "yes" if fit.checkpoint_activations else "no",
            span(fit.seconds),
            f"{fit.kwh[0]:.2g}-{fit.kwh[1]:.2g}" if fit.kwh else None,
        )
        for fit in fits
    ]
    print_table(titles, rows, right=("needs GiB", "of free", "to spare", "time", "kWh"))
    print()
    print_table(
        ("GiB", *PARTS),
        [(fit.name, *(figures.gib(getattr(fit.parts, part)) for part in PARTS)) for fit in fits],
        right=PARTS,
    )
    for fit in fits:
        if fit.ladder:
            print()
            print_table(
                (f"{fit.name}: {'faster' if fit.fits else 'to fit'}", "saves GiB", "time", "fits", "price"),
                [
                    (
                        ", ".join(f"{key} = {str(value).lower()}" for key, value in rung.change.items()),
                        figures.gib(rung.saves_mib),
                        f"{rung.time - 1:+.0%}" if rung.time else None,
                        "yes" if rung.fits else "no",
                        rung.price,
                    )
                    for rung in fit.ladder
                ],
                right=("saves GiB", "time"),
            )


def span(seconds: tuple[float, float] | None) -> str | None:
    """From and to: `12m - 40m`."""
    return f"{figures.duration(seconds[0])} - {figures.duration(seconds[1])}" if seconds else None


def _verdict(found: Estimate) -> str:
    fitting = [fit for fit in found.fits if fit.fits]
    about = f"{found.steps:,} steps; figures are estimated, not simulated."
    if not fitting:
        names = ", ".join(fit.name for fit in found.fits)
        return f"Does not fit {names}. {about}"
    most = max(fitting, key=lambda fit: fit.headroom_mib)
    if most.uuid == "cpu":
        return f"Runs on the CPU with at least {figures.gib(most.predicted_process_mib)} GiB. {about}"
    return f"Fits {most.name} with {figures.gib(most.headroom_mib)} GiB to spare. {about}"
