"""What a run did, read from its folder alone."""
