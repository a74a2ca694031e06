"""The registry front: any listed image, fetched when a client asks for it."""
