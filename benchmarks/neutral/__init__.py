"""Proof that a change is neutral: a small run of another revision and of the working tree, compared to the last bit."""
