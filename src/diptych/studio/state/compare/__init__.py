"""The Compare page without its elements: what was compared, its tables and curves, and the jobs that compare."""
