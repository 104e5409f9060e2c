"""The command line: thin commands over functions that can do the same."""
