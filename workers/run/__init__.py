"""What a run is told and what it says: context, stages, failures, and how cells are read. The lowest room."""
