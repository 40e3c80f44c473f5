"""A training step run on tensors without data: what it allocates, when, and for how long. Imports torch; nothing that people look at does."""
