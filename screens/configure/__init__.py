"""The Configure screen."""

from screens.configure.screen import ConfigureScreen

__all__ = ["ConfigureScreen"]
