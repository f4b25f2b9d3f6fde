"""What runs beside a GPU: the scheduler loop, the supervisor, the zygote with its children, runners and engines."""
