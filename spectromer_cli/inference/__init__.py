"""From files to a table of predictions."""
