"""Examples: opened, mapped, rendered, tokenised, checked, split - without torch.

`sources` opens files of every kind as rows, `mapped` maps their columns to `examples`, `render` turns an example into tokens
and says which of them the loss counts. `division` and `split` say what each row is for, `prepare` writes what training
reads. `scan`, `check` and `report` look for what is wrong; `opened` is how people look at data.
"""
