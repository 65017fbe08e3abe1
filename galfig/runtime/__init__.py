"""The process and the disk: files, locks, progress, time and memory."""
