"""Is the tuned model better than its base? Suites, answers, scores, and statistics that say how sure they are.

`suites` reads the questions, `generate` and `job` put them to the models (the only modules here that need torch),
`scorers` reads the answers, `measures` turns them into figures, `statistics` and `tables` into differences with
intervals, `compare` into a verdict and `report` into a page.
"""
