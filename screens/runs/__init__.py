"""Runs: every training in the ledger, live ones as they go."""

from screens.runs.screen import RunsScreen

__all__ = ["RunsScreen"]
