"""Forecasts of the work of each stage of a run, from the lengths of its data."""
