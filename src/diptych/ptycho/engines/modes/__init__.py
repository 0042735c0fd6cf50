"""Number of probe modes by evidence: trials on part of a scan, and when they are made."""
