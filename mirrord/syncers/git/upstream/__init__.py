"""Looking at upstream, at the cache and at the targets."""
