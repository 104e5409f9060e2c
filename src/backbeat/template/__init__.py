"""Making the template somebody else's project."""
