"""How much memory and time work will take, from what is known before it starts. Pure functions; no file is read here.

made = estimate(spec, {"model": KnownModel(shape_of(config), weights_bytes)}, facts_of_report(report))
"""
