"""Is the tuned model better than its base? Suites, answers, scores, and statistics that say how sure they are.

`suites` reads the questions, `plan` says which are put to which models, `job` does it with `generate` and `likelihood`
(the only modules here that need torch), `scorers` and `answers` read what was said. `pairing` says what may be compared,
`measures` turns answers into figures, `statistics`, `tables` and `difference` into differences with intervals, `compare`
into a verdict, `behind` shows the answers behind it and `report` makes it a page.
"""
