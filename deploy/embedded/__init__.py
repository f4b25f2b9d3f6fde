"""The whole platform on one machine: PostgreSQL, Redis and S3 from wheels, the API, the scheduler and the workers."""
