"""What a run leaves on disk: folder, lock, record, state and listing."""
