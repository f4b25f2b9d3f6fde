"""Functions that runners share: load, tokenize, train, checkpoint, judge, save."""
