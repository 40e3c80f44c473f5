"""The training loop and what it needs. Imports torch: only job processes may import from here."""
