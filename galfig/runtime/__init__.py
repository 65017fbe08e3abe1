"""Process and disk: files, locks, messages, progress, timing and memory."""
