"""Content by digest: stored (`store`, `disk`, `repositories`) and in transfer (`spool`, `pool`)."""
