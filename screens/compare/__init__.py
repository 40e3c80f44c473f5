"""Compare: is a run better than its base, or than another run, and which answers say so."""

from screens.compare.screen import CompareScreen

__all__ = ["CompareScreen"]
