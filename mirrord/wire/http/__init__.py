"""HTTP as a client: the only door to aiohttp's client."""
