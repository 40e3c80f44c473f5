"""Monitor: one run as it trains, or as it was."""

from screens.monitor.screen import MonitorScreen

__all__ = ["MonitorScreen"]
