"""What the tests of this house need besides `mirrord.testing`: worlds of doubles, runners for judges."""
