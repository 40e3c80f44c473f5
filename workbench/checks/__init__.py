"""What `workbench doctor` looks at, a topic each: libraries, GPUs, storage, the session one is logged in with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: is it well, what was found, and what to do (empty when there is nothing to do)."""

    name: str
    ok: bool
    found: str
    advice: str = ""
