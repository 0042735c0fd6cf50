"""Writing files in the formats of other programs; the readers lie in ``scans`` and ``results``."""
