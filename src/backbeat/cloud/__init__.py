"""What is done with the bucket: push, pull and verify, what it costs, mirrors and backups, and a place to rehearse."""
