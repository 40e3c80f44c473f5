"""A speech-analysis instruction set: acoustic measures of a sustained vowel and their reading.

Four measures, as a voice report gives them:

- F0, fundamental frequency in Hz, 85 to 255;
- jitter (local) in %, how much consecutive periods differ: 0.20 to 4.00;
- shimmer (local) in %, how much consecutive amplitudes differ: 1.00 to 12.00;
- HNR, harmonics-to-noise ratio in dB: 5.0 to 30.0.

Thresholds: jitter 1.04 % and shimmer 3.81 %, as the Multi-Dimensional Voice Program (MDVP) has them and the Praat manual quotes them
(pages "Voice 2. Jitter" and "Voice 3. Shimmer"); HNR 20 dB, what the Praat manual says a healthy speaker reaches in [a] or [i] (page
"Harmonicity"). The reading follows the two ends of the GRBAS scale (Hirano, Clinical Examination of Voice, 1981): irregular vibration
is heard as roughness, added noise as breathiness, both as hoarseness. The rows are generated: they teach a rule, not a diagnosis, and
no measure comes from a person.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Final

JITTER_PERCENT: Final = 1.04
SHIMMER_PERCENT: Final = 3.81
HNR_DB: Final = 20.0

LABELS: Final = ("within normal limits", "rough", "breathy", "hoarse")

QUESTION: Final = (
    "Read this voice: F0 {f0_hz} Hz, jitter {jitter_percent} %, shimmer {shimmer_percent} %, HNR {hnr_db} dB."
)

# Uniform ranges on either side of a threshold. The gap between them is what two takes of one voice easily differ by.
_F0_HZ: Final = (85, 255)
_JITTER: Final = ((0.20, 0.95), (1.15, 4.00))
_SHIMMER: Final = ((1.00, 3.50), (4.10, 12.00))
_HNR: Final = ((21.0, 30.0), (5.0, 19.0))


@dataclass(frozen=True)
class Reading:
    """One row: the measures as text with their usual decimals, the label, and the reading, which is the label and no more."""

    id: str
    f0_hz: str
    jitter_percent: str
    shimmer_percent: str
    hnr_db: str
    label: str
    reading: str


def label_of(jitter_percent: float, shimmer_percent: float, hnr_db: float) -> str:
    """The label that the thresholds give."""
    irregular = jitter_percent > JITTER_PERCENT or shimmer_percent > SHIMMER_PERCENT
    noisy = hnr_db < HNR_DB
    return LABELS[irregular + 2 * noisy]


def readings(count: int, seed: int) -> tuple[Reading, ...]:
    """`count` rows, no two with the same measures, the four labels in equal shares, the same for the same seed."""
    chance = random.Random(seed)
    found: dict[tuple[str, ...], Reading] = {}
    while len(found) < count:
        wanted = LABELS[len(found) % len(LABELS)]
        f0, jitter, shimmer, hnr = _measures(chance, wanted)
        text = (str(f0), f"{jitter:.2f}", f"{shimmer:.2f}", f"{hnr:.1f}")
        if text not in found:
            found[text] = Reading(f"voice-{len(found) + 1:04}", *text, wanted, wanted)
    rows = list(found.values())
    chance.shuffle(rows)
    return tuple(rows)


def rows(count: int, seed: int) -> list[dict[str, str]]:
    """`readings` as the rows of a JSONL file."""
    return [asdict(reading) for reading in readings(count, seed)]


def _measures(chance: random.Random, label: str) -> tuple[int, float, float, float]:
    irregular = label in ("rough", "hoarse")
    noisy = label in ("breathy", "hoarse")
    # Irregular means either or both: jitter alone, shimmer alone and both are equally frequent.
    jitter_high, shimmer_high = chance.choice(((1, 0), (0, 1), (1, 1))) if irregular else (0, 0)
    return (
        chance.randint(*_F0_HZ),
        round(chance.uniform(*_JITTER[jitter_high]), 2),
        round(chance.uniform(*_SHIMMER[shimmer_high]), 2),
        round(chance.uniform(*_HNR[noisy]), 1),
    )
