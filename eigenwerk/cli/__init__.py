"""The command `eigenwerk`. One room per kind of noun; what goes wrong is one line on stderr.

Exit codes (docs/operations.md): 0 done, 1 it failed or was refused, 2 it was called wrongly, 130 Ctrl-C.
"""
