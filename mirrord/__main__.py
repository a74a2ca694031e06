"""`python -m mirrord`."""

from mirrord.cli import main

main()
