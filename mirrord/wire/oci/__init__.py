"""The OCI distribution protocol: references, manifests, registry quirks and one repository's client."""
