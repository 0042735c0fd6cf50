"""The processor and its memory: threads, forked processes, available memory."""
