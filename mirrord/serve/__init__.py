"""HTTP: health, status, metrics, the read-only front, and the control socket."""
