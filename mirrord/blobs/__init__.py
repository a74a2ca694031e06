"""Content by digest: kept (`store`, `disk`, `links`) and on its way (`spool`, `pool`)."""
