"""Benchmarks: ratios measured in one interleaved run, on real galaxies if they are available."""
