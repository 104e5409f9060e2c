"""Where bytes live: the staging store beside DVC's cache, links out of it, and the space they need."""
