"""Bytes from anywhere: addresses, servers, hubs, resuming, ranges, and the members of an archive far away."""
