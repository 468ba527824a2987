"""Rows in, tokenized pairs out: sources, formats, chat templates, and the tables that a run keeps."""
