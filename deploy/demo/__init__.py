"""The whole journey of one job on this machine, in a few minutes: `python -m deploy.demo`."""
