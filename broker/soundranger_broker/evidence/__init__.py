"""Evidence: one file that shows how an event came about, its check by anybody, and a look at others' recordings."""
