"""Reads files as rows: finds the files of a source, and has a reader for each format."""
