"""The ledger: a durable, append-only record of what was shown and how it was judged."""
