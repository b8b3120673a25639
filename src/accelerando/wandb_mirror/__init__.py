"""W&B as a mirror of the record: client, live mirror, sync, sweep agent and workspace."""
