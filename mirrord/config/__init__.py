"""Room 1, read: a folder of YAML becomes one frozen `Configuration`, or a list of problems with their lines.

`mirrord.config.load.load_folder` is the way in. Nothing here talks to another machine.
"""
