"""Citing: what a paper with figures of a store must cite, and why."""
