"""Everything that outlives a process: tables, repositories, the object store and the progress bus."""
