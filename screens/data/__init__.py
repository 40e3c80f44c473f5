"""Data: rows as the model will see them, and what is wrong with them."""

from screens.data.screen import DataScreen

__all__ = ["DataScreen"]
