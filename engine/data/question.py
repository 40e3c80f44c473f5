"""When two prompts ask the same: equal after Unicode, case and blanks are made one."""

from __future__ import annotations

import hashlib
import unicodedata


def normalised(text: str) -> str:
    """Text in NFKC, without case, with every run of blanks as one."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def prompt_hash(text: str) -> str:
    """SHA-256 of the normalised text, hexadecimal; by it training rows and suite items are compared."""
    return hashlib.sha256(normalised(text).encode("utf-8", errors="replace")).hexdigest()
