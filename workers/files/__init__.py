"""Files that a host keeps, for jobs and deployments alike: data sets and models of the store and of hubs."""
