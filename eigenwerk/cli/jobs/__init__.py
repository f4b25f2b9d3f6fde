"""Jobs, and what submits them: pipelines, sweeps and schedules."""
