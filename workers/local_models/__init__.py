"""Models in a local folder, as training, engines and runners share them: loading, tokens, forward passes."""
