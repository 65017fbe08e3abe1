"""A page to browse galaxies and their maps, which works without a server or a network."""
