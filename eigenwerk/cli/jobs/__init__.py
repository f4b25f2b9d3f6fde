"""Jobs, and what submits them: pipelines and schedules."""
