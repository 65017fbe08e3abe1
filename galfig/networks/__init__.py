"""Networks: built, trained, kept as checkpoints, and compared with new images."""
