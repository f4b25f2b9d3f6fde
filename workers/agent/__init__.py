"""The process on a host that runs jobs: supervises attempts, announces the host, tidies up."""
