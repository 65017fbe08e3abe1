"""Pipeline: from a catalog, its images and a network to a store of maps."""
