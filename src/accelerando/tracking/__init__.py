"""What a run leaves behind, and who works on it: the record, and W&B as its mirror."""
