"""Will a run fit its GPU, and how long will it take.

`facts` looks at base and data, `shapes` and `cards` say what model and GPU are, `memory` and `speed` hold the formulas;
`estimate` puts them together and `ladder` says what to change.
"""
