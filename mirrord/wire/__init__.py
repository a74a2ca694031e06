"""Protocols spoken with other machines; `trust` says where a secret may go, `http` is the only way out."""
