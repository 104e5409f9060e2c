"""Side-by-side measurements against the usual tools: `make bench`."""
