"""The connection to the bucket: which one, with which keys, by S3 or by rclone, and what its refusals mean."""
