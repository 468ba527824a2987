"""Files as rows: which files a source names, and a reader for each format."""
