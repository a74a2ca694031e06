"""Turns configurations of other mirroring tools into a configuration of mirrord: one module a format. Pure."""
