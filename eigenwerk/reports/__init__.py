"""What is told people of jobs and pipelines, before, while and after they run."""
