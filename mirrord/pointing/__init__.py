"""Pointing users at the mirror: rewriting manifests, admission of Pods, configurations of clients."""
