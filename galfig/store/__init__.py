"""The store: one HDF5 file with maps, probabilities and cutouts; no torch."""
