"""HTTP in, HTTP out. One folder per resource: endpoints translate, services decide, schemas are the shapes."""
