"""Attribution: what a network saw, exactly and fast; torch and nothing else."""
