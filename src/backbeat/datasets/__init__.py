"""Datasets: the registry of records, and how the bytes that a record promises get onto the disk and are proven."""
