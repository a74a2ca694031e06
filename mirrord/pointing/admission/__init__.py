"""Admission reviews of Kubernetes (admission.k8s.io/v1): the images of a new Pod are pointed at the mirror. Pure.

A Pod is never refused. The API server refuses one whose patch cannot be applied, also where it ignores failures. So no
operation is a `test`, a patch is applied to the very object before it is answered, and whatever is odd is answered
allowed and unchanged, with a warning.
"""
