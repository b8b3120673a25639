"""One run: the loop, its step, its checkpoints, and the processes that share it."""
