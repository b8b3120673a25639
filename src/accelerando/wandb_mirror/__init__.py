"""W&B as a mirror of the record: client, live mirror, sync and sweep agent."""
