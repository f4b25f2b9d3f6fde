"""The command `eigenwerk`. One module per noun; what goes wrong is one line on stderr.

Exit codes: 0 done, 1 it failed, 2 it was called wrongly, 130 Ctrl-C.
"""
