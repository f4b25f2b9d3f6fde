"""Files that a host fetched and keeps: data sets and models of the store, models of a hub."""
