"""Networks: build them, train them, keep them as checkpoints, and compare them with new images."""
