"""Launch the runs of a sweep on this machine or on a SLURM cluster."""
