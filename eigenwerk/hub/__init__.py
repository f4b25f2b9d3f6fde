"""Data sets of a model hub: which of a repository's files are the rows, fetched and made ready to be pushed.

It runs where the people are, with their access and their token; the platform needs none. huggingface_hub is asked for
when it is first needed: a client that never pulls a data set has no use for it.
"""

from __future__ import annotations

from eigenwerk.hub.finding import find_hub_dataset
from eigenwerk.hub.hub_dataset import HubDataset, HubFile
from eigenwerk.hub.preparing import Transferring, ready_to_push, unseen

__all__ = ["HubDataset", "HubFile", "Transferring", "find_hub_dataset", "ready_to_push", "unseen"]
