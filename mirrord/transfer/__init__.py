"""Room 3, do: runs the steps of whichever syncer it is given."""
