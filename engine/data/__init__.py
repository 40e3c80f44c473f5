"""Examples: opened, mapped, rendered, tokenised, checked, split - without torch.

`sources` opens files of every kind as rows, `mapped` maps their columns to `examples` as `mapping` says, `sampler` turns an
example into tokens and says which of them the loss counts: conversations with `render`, plain text with `documents`.
`division`, `split` and `mixing` say what each row is for and how often it is seen, `prepare` writes what training reads.
`scan`, `check` and `report` look for what is wrong; `opened` is how people look at data.
"""
