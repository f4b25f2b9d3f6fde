"""Foreign bytes are read in a process that may neither run long nor grow large, and that ends with whoever asked.

    confinement = Confinement("api.foreign_files:TASKS")
    confinement.run("profile", {"path": ...}, Limits(cpu_s=8, memory_bytes=1024**3, wall_s=60))

`zygote` is a warm process that forks one child per task; `confinement` asks it. What may run is declared in a table.
`process` has what they share with chat templates, whose processes stay: limits, start and end.
"""
