"""The demonstration: a small base model and a data set made on this machine, fine-tuned, evaluated and compared.

Nothing is downloaded. `relations`, `facts` and `weather` are what the base model is to know, `speech` the data it is tuned on, `suites`
what is asked of it before and after, `tokenizer` and `foundation` make the base model, `story` runs it all, `live` shows it.
"""
