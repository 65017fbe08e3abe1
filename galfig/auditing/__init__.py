"""The audit: what the maps of a store are worth, each number with its controls and interval."""
