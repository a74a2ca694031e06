"""The port between mirrord and a kind of artifact: the promises, the values that they speak of, and the loader."""
