"""Will a run fit its GPU, and how long will it take.

`facts` looks at base and data, `shapes` and `cards` say what model and GPU are, and `asking` makes one `question` of it: how much memory does a
step take. `predicting` answers by formulas (`setup`, `memory`), the `simulator` by running the step on fake tensors in a child process
(`simulation`, whose `stream` of allocations is `extending` to all layers and replayed through an `allocator`), `anchored` between points that
were simulated. `search` chooses what the profile leaves open, `settling` has what is chosen simulated, `speed` says how long it takes,
`ladder` what to change, and `estimate` puts it together. `history` is what past runs taught, `check` holds predictions against them.
"""
