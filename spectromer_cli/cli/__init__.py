"""The command line: one thin file a command: parse, call, render the result."""
