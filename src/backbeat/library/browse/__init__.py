"""The catalog in a browser: datasette with players, facets, and the search of `backbeat library find`."""
