"""Somebody else's training, followed from its files: a Trainer, TRL or axolotl run that Workbench did not start.

`watch.Watch` looks at a folder again and again and writes what is new into the ledger; `folder` says what lies there,
`processes` who writes it, `text_log` what its output says, `merging` makes one run of several sources, `story` keeps it in
the ledger. The formats themselves are read by `engine.ledger.exchange`.
"""
