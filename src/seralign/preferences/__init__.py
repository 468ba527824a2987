"""Preferences over responses, and how one form becomes another."""
