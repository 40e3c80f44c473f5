"""Floor 1: everything that runs without a terminal."""

__version__ = "0.1.0"
