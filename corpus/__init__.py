"""What the rows of a data set mean: conversations, pairs, and whether a training job can work with them.

Rows come from `storage.tabular`, one at a time. The API reads this room before a job is queued and the workers read it
when they train, so both see the same data the same way.
"""
