"""Signatures of images as cosign makes them, verified by key or by identity.

cosign 2 signs a payload (`simple`), cosign 3 a statement in a bundle (`bundle`). What is verified is not what is meant:
a signature is good for one digest, which it names, and `judgement` compares that.
"""
