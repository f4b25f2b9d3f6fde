"""Language models with fewer bits per weight: one file per family of schemes, `registry.py` names them."""
