"""From a profile as a person wrote it to the one that is run: nothing is "auto" any more, and what can be refused is refused here.

Asked in the order of cost: is the base to be had, are the data there, is there a device, and what fits it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from engine import compatible, gpu, hub
from engine.data.hub_source import copy_path, download_apart, is_hub_id
from engine.data.sources import check_there
from engine.errors import Problem, closest
from engine.evaluate.suites import find_suite
from engine.fit import asking, cards, context, history, setup
from engine.fit.anchored import Anchored
from engine.fit.cards import Card
from engine.fit.estimate import FORMULAS, GpuFit, fit, this_cpu
from engine.fit.facts import Facts, look
from engine.fit.predicting import Predictor
from engine.fit.question import Machine
from engine.fit.search import MOST_ROWS_CPU, divisors
from engine.fit.settling import Answering, Waiting, settle, told
from engine.gpu import Gpu
from engine.ledger import Ledger
from engine.lineage import grounded
from engine.placing import choose_gpus, ranks_of, sharding_asked
from engine.profile import Profile, changed, unresolved
from engine.steps import total_steps

HIGHEST_PREFERENCE_RATE: Final = {"lora": 5e-5, "full": 5e-6}


@dataclass(frozen=True)
class Resolved:
    """A profile without "auto", and what was found on the way.

    `steps` is the number of optimizer steps; rows dropped for their length may make it smaller. `notes` say what a person should know.
    `prediction` is None for a model whose memory is not understood. `parent` is the uid of the run that this one goes on from.
    `doubts` are those of the notes that a person may not want: a screen asks before it starts.
    `any_gpu` says that the GPU was not named: queued, the run may take another that does as well.
    """

    profile: Profile
    steps: int
    notes: tuple[str, ...]
    facts: Facts
    download: hub.Download
    prediction: GpuFit | None
    parent: str | None = None
    any_gpu: bool = False
    doubts: tuple[str, ...] = ()

    @property
    def disk_bytes(self) -> float:
        """What the run writes."""
        return disk_bytes(self.profile, self.facts)


def disk_bytes(profile: Profile, facts: Facts) -> float:
    """What a run writes: checkpoints (the kept ones, the best, one in the making) with optimizer state, and its result twice.

    0 for a model whose shape is not understood.
    """
    if facts.shape is None:
        return 0.0
    asked = asking.question(profile, facts, rows=1, checkpointing=False, machine=Machine(None))
    step = setup.of_question(asked)
    weights = setup.FULL * setup.trainable(step)
    return (profile.training.keep + 2) * (weights + setup.optimizer_bytes(step)) + 2 * weights


def resolve(profile: Profile, ledger: Ledger | None = None, simulator: Answering | None = None) -> Resolved:
    """Resolve a profile; looks at data and base, asks the hub and the GPUs, changes nothing but the cache of hub data.

    What fits a GPU is simulated where there is a `simulator`: some seconds. A CPU is not waited for: what is known already is taken, or formulas.

    Raises:
        Problem: unknown or gated model, no network, no room, missing data or column, no such GPU, a run that cannot be gone on from.
    """
    notes: list[str] = []
    compatible.check_mirrors(profile.training)
    profile, parent = grounded(profile, ledger, notes)
    for data in profile.data:
        check_there(data)
    download = hub.check(profile.model.base, profile.model.revision)
    if download.missing:
        notes.append(f"{download.missing / 1e9:.1f} GB are downloaded first")
    for data in profile.data:
        if is_hub_id(data.source) and not copy_path(data).is_file():
            download_apart(data)
    config = hub.config(profile.model.base, profile.model.revision)
    compatible.check(profile.method, config)
    doubts = compatible.notes(profile.model, profile.method, config)
    facts = look(profile)
    check_names(profile, facts)
    doubts += preference_advice(profile)
    notes += doubts
    any_gpu = profile.hardware.gpus in ("auto", ())
    profile, prediction = _placed(profile, facts, simulator, ledger, notes)
    left = unresolved(profile)
    assert not left, f"still auto: {left}"
    steps = total_steps(facts.train_rows, profile.training)
    return Resolved(profile, steps, tuple(notes), facts, download, prediction, parent, any_gpu, tuple(doubts))


def preference_advice(profile: Profile) -> list[str]:
    """What is unusual about how a profile learns preferences.

    The same models were fine-tuned at 2e-5 and then preference-tuned at 5e-7 (arXiv:2310.16944, all weights), and TRL's defaults are 2e-5 and
    1e-6; a lora adapter takes ten times the rate of all weights. Log-probabilities a token are small: beta 5 for them (arXiv:2411.15124).
    """
    training, method = profile.training, profile.method
    if training.objective not in ("dpo", "orpo"):
        return []
    found = []
    highest = HIGHEST_PREFERENCE_RATE.get(method.name)
    if highest is not None and training.learning_rate > highest:
        found.append(
            f"training.learning_rate = {training.learning_rate:g} is high for {training.objective}: with {method.name} "
            f"{highest / 10:g} to {highest:g} is usual, a tenth of what sft takes"
        )
    if training.objective == "dpo" and training.length_normalised and training.beta < 1:
        found.append(f"training.beta = {training.beta:g} is low for log-probabilities a token: about 5 is usual")
    return found


def check_names(profile: Profile, facts: Facts) -> None:
    """See that the suites and the modules that a profile names are there: a typo must not show only after training.

    Raises:
        Problem: they are not (code `suite` or `model`).
    """
    for name in profile.evaluation.suites:
        if name != "test":
            find_suite(name, None)
        elif not facts.test_rows:
            raise Problem(
                "evaluation.suites names test, and no rows are held out for it",
                f"split.test = {profile.split.test}.",
                "Set split.test, for example to 0.1, or take test out of the suites.",
                code="suite",
            )
    if facts.shape is None or facts.shape.experts or facts.shape.beside or isinstance(profile.method.targets, str):
        return  # not all of its modules are told by its shape: the adapter looks when it is attached
    known = [*(linear.name for linear in facts.shape.linears), "lm_head"]
    for target in profile.method.targets:
        if target.rpartition(".")[2] not in known:
            raise Problem(
                f"The model has no module {target}{closest(target, known)}",
                f"Linear modules are {', '.join(known)}.",
                'Change method.targets, or set it to "all-linear".',
                code="model",
            )


def _placed(
    profile: Profile, facts: Facts, simulator: Answering | None, ledger: Ledger | None, notes: list[str]
) -> tuple[Profile, GpuFit | None]:
    """Device, GPU, and what fits it."""
    there = gpu.gpus()
    device = profile.hardware.device
    if device == "auto":
        device = "cuda" if there else "cpu"
    if device == "cuda" and not there:
        raise Problem(
            "hardware.device = cuda, and there is no GPU",
            gpu.why_none(),
            "Set hardware.device = cpu, or see: workbench doctor",
            code="gpu",
        )
    compatible.check_optimizer(profile.training, device)
    chosen = choose_gpus(profile.hardware.gpus, there, profile.hardware.ranks) if device == "cuda" else ()
    ranks = ranks_of(profile, chosen)
    if device == "cpu":
        notes.append("it runs on the CPU" + (", as asked" if there else f": {gpu.why_none()[:-1]}"))
    placed = changed(
        profile,
        {
            "hardware.device": device,
            "hardware.ranks": ranks,
            "hardware.gpus": tuple(found.uuid for found in chosen),
        },
    )
    sharding = sharding_asked(placed, ranks)
    card = min(cards.live(chosen), key=lambda one: one.free_mib, default=None) if device == "cuda" else this_cpu()
    if card and device == "cuda" and ledger:
        card = _taught(ledger, card, chosen, profile, notes)
    prediction = _predicted(placed, facts, card, simulator, notes) if card else None
    if card is None:
        notes.append("memory is not predicted: the driver does not say how much there is")
    if prediction:
        sharding = prediction.sharding
    placed = changed(placed, {"hardware.sharding": "replicate" if sharding == "auto" else sharding})
    return _settled(placed, facts, prediction), prediction


def _taught(ledger: Ledger, card: Card, chosen: Sequence[Gpu], profile: Profile, notes: list[str]) -> Card:
    """The card with what its runs taught of it. What CUDA holds of it is measured here where that has never been done: some seconds."""
    try:
        context.ensured(ledger, next(each for each in chosen if each.uuid == card.uuid))
    except Problem as problem:
        notes.append(f"what CUDA itself holds of {card.name} could not be measured: {problem.why.rstrip('.')}")
    return history.taught(ledger, card, profile)


def _predicted(
    profile: Profile, facts: Facts, card: Card, simulator: Answering | None, notes: list[str]
) -> GpuFit | None:
    """What it needs on the card, and in the notes what a person should know of that; None where nobody can tell."""
    waits = simulator is not None and card.uuid != "cpu"
    predictor: Predictor = FORMULAS
    if simulator:
        predictor = Waiting(simulator) if waits else Anchored(simulator)

    def now() -> tuple[GpuFit, ...]:
        return (fit(profile, facts, card, predictor, climb=False),)

    try:
        problem = settle(now, simulator) if simulator and waits else None
        (found,) = now()
    except Problem as unknown:
        if unknown.code != "shape":
            raise
        notes.append(f"memory is not predicted: {unknown.why}")
        return None
    if problem:
        notes.append(f"memory is estimated by formulas, not simulated: {told(problem).rstrip('.')}")
    if found.sharding == "shard":
        each = "GPUs" if card.uuid != "cpu" else "processes"
        notes.append(f"each of {found.ranks} {each} holds a part of the model")
    if not found.fits:
        notes.append(
            f"it may not fit {found.name}: {found.predicted_process_mib / 1024:.1f} GiB are predicted, "
            f"{found.free_mib / 1024:.1f} are free"
        )
    return found


def _settled(profile: Profile, facts: Facts, prediction: GpuFit | None) -> Profile:
    training, on_gpu = profile.training, profile.hardware.device == "cuda"
    batch = training.effective_batch
    rows = training.micro_batch
    if rows == "auto":
        blind = 1 if on_gpu else MOST_ROWS_CPU
        share = math.ceil(batch / int(profile.hardware.ranks))  # what a rank has of a step
        rows = divisors(batch, min(share, prediction.micro_batch if prediction else blind))[0]
    checkpointing = training.checkpoint_activations
    if checkpointing == "auto":
        checkpointing = (
            prediction.checkpoint_activations if prediction else on_gpu and profile.method.bears_recomputation
        )
    attention = profile.model.attention
    return changed(
        profile,
        {
            "model.attention": "sdpa" if attention == "auto" else attention,
            "template.max_tokens": facts.max_tokens,
            "training.micro_batch": rows,
            "training.checkpoint_activations": checkpointing,
            # What only the model itself can say, whether it keeps rows that are packed apart, is tried when the run starts.
            "training.packing": not profile.method.learns_a_prompt if training.packing == "auto" else training.packing,
            # As long as the longest example may be: every row that fits padded fits packed. Longer rows were no faster on a CPU (1,024 to 4,096
            # tokens at once are within a tenth of each other), and the micro-batch says how many a GPU takes at once.
            "training.row_tokens": facts.max_tokens if training.row_tokens == "auto" else training.row_tokens,
        },
    )


def cards_for(profile: Profile, there: Sequence[Gpu]) -> tuple[Card, ...]:
    """What a run of the profile may be fitted to: the GPUs that it allows; none for the CPU.

    Raises:
        Problem: it names a GPU that is not there, wants more than there are, or the driver does not tell the memory of any.
    """
    hardware = profile.hardware
    if hardware.device == "cpu" or not there:
        return ()
    open_ = hardware.gpus in ("auto", ()) and hardware.ranks in ("auto", 1)
    chosen = tuple(there) if open_ else choose_gpus(hardware.gpus, there, hardware.ranks)
    found = cards.live(chosen)
    if not found:
        raise Problem(
            f"How much memory {' and '.join(gpu.name for gpu in chosen)} has is not known",
            "The driver does not answer.",
            "See nvidia-smi and workbench doctor; a kind of GPU can be named in its place: workbench fit --gpu NAME",
            code="gpu",
        )
    return found
