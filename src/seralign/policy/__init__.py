"""The policy: loading, identity, log-probabilities, sampling."""
