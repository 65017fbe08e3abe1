"""The store: one HDF5 file with maps, probabilities and cutouts. It does not need torch."""
