"""What a run will do, before it runs: the work of each stage, from the lengths of the data."""
