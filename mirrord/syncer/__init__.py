"""The port between mirrord and a kind of artifact: protocols, values, and the loader."""
