"""One attempt at one job, from `assigned` to its end: inputs, child, checkpoints, artifact, lease, orders."""
