"""Worker processes and threads that inspect and decode files."""
