"""What the file of a data set's version is for, in OpenAI's words."""

from __future__ import annotations

from typing import Literal, get_args

#: `batch_output`: a batch has made it. What was pushed as a data set is for training, as any table.
Purpose = Literal["fine-tune", "batch", "batch_output"]
PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
