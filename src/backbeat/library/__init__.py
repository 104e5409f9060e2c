"""The sample library: thousands of WAV files described, free of duplicates, curated, archived and found again."""
