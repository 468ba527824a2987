"""Implicit rewards of responses, and what they decide: labels, selection and pairs."""
