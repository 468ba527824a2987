"""Requests to OpenAI-compatible servers."""
