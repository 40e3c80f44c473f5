"""What CUDA itself holds of each GPU, as it was measured on this machine: once for a GPU, its driver and a version of torch."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, dataclass, fields
from typing import Final

from engine.ledger.store import Ledger


@dataclass(frozen=True)
class Context:
    """One measurement. `mib` is what a process holds of the GPU besides what torch's allocator reserves, once kernels have run;
    `workspace_mib` is what cuBLAS keeps inside of that for the threads that go forward and backward. `measured` in seconds since the epoch.
    """

    uuid: str
    driver: str
    torch: str
    name: str
    mib: float
    workspace_mib: float
    measured: float


_COLUMNS: Final = ", ".join(field.name for field in fields(Context))


def keep(ledger: Ledger, context: Context) -> None:
    """Keep it, in place of an older one of the same GPU, driver and torch."""
    marks = ", ".join("?" * len(fields(Context)))
    with ledger.transaction(durable=True) as connection:
        connection.execute(f"INSERT OR REPLACE INTO context ({_COLUMNS}) VALUES ({marks})", astuple(context))


def gather(connection: sqlite3.Connection) -> None:
    """Take over what `other`, a ledger beside this one in a transaction, has of GPUs that were not measured here, or later there."""
    values = ", ".join(f"{name} = excluded.{name}" for name in ("name", "mib", "workspace_mib", "measured"))
    newer = "(excluded.measured, excluded.mib, excluded.workspace_mib) > (measured, mib, workspace_mib)"
    connection.execute(
        f"INSERT INTO main.context ({_COLUMNS}) SELECT {_COLUMNS} FROM other.context WHERE true"
        f" ON CONFLICT DO UPDATE SET {values} WHERE {newer}"
    )


def find(ledger: Ledger, uuid: str, driver: str, torch: str) -> Context | None:
    """The measurement of this GPU with this driver and torch."""
    asked = (uuid, driver, torch)
    return next((each for each in listed(ledger) if (each.uuid, each.driver, each.torch) == asked), None)


def listed(ledger: Ledger) -> list[Context]:
    """All measurements, the newest first."""
    return [Context(*row) for row in ledger.rows(f"SELECT {_COLUMNS} FROM context ORDER BY measured DESC")]
