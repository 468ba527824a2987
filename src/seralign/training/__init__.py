"""Training a policy on pairs: packed batches, the trainer. Knows nothing about rounds."""
