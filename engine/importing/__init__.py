"""Configurations of other trainers as profiles: axolotl, LLaMA-Factory, TRL and the Trainer's arguments; with what became of each of their keys."""

from engine.importing.carrying import Imported, Line
from engine.importing.reading import KINDS, imported, looks_foreign

__all__ = ["KINDS", "Imported", "Line", "imported", "looks_foreign"]
