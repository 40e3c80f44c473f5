"""Somebody else's training, followed from its files: a Trainer, TRL or axolotl run that Workbench did not start.

`watch.Watch` looks at a folder again and again and writes what is new into the ledger. `folder` says what lies there, `sources` what
that tells (the formats are read by `engine.ledger.exchange`, printed output by `text_log`), `processes` who writes it and what it
holds on the GPU, `verdict` in which state it is; `combining` makes one run's points of several sources, `story` keeps the rest.
"""
