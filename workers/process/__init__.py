"""Processes that run jobs: the zygote, the child forked from it for each attempt, and the ranks of several GPUs."""
