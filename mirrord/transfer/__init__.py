"""Stage 3, transfer: executes the steps of any syncer."""
