"""The audit: what the maps of a store are worth, by measures with their controls."""
