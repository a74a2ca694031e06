"""The configuration of each client that pulls images, so that it asks the mirror first. Pure: a module a client."""
