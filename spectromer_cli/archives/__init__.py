"""Archives: downloading from servers."""
