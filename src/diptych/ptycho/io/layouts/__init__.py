"""Layouts: files of a kind that no format reads, described once by a person in YAML, and then read by that."""
