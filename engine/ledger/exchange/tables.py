"""Metrics as one long table for other programs: CSV or Parquet, a row a point.

`uid`, `run` (its name), `key`, `step`, `time` (seconds since the epoch) and `value`; NaN and infinities are kept as such. `plain`
reads it back.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.atomic import replacing, write_bytes
from engine.ledger import metrics
from engine.ledger.runs import Run
from engine.ledger.store import Ledger

if TYPE_CHECKING:
    import polars

Progress = Callable[[int, int], None]  # runs done and to do


def write_csv(ledger: Ledger, chosen: Sequence[Run], to: Path, progress: Progress) -> None:
    """Write the runs' points to `to`, a run at a time.

    Raises:
        Problem: it cannot be written; what stood there is untouched.
    """
    with replacing(to) as part, part.open("wb") as file:
        file.write(b"uid,run,key,step,time,value\n")
        for frame in _frames(ledger, chosen, progress):
            frame.write_csv(file, include_header=False)


def write_parquet(ledger: Ledger, chosen: Sequence[Run], to: Path, progress: Progress) -> None:
    """Write the runs' points to `to`; all of them are in memory meanwhile (40 bytes each).

    Raises:
        Problem: it cannot be written; what stood there is untouched.
    """
    import polars

    buffer = io.BytesIO()  # polars tells of a full disk in words of its own
    polars.concat([_empty(), *_frames(ledger, chosen, progress)]).write_parquet(buffer)
    write_bytes(to, buffer.getvalue())


def _frames(ledger: Ledger, chosen: Sequence[Run], progress: Progress) -> Iterator[polars.DataFrame]:
    """A frame for each metric of each run, by key and step."""
    import polars

    for done, run in enumerate(chosen, 1):
        for key, curve in metrics.curves(ledger, run.id, metrics.keys(ledger, run.id)).items():
            columns = {"step": curve.steps, "time": curve.times, "value": curve.values}
            same = [polars.lit(text).alias(name) for name, text in (("uid", run.uid), ("run", run.name), ("key", key))]
            yield polars.DataFrame(columns).select(*same, *columns).cast(_empty().schema)
        progress(done, len(chosen))


def _empty() -> polars.DataFrame:
    import polars

    words = dict.fromkeys(("uid", "run", "key"), polars.Categorical)
    return polars.DataFrame(schema={**words, "step": polars.Int64, "time": polars.Float64, "value": polars.Float64})
