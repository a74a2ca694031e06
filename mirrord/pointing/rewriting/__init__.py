"""Rewriting the files in which programs name images: which texts name one, and the edits that point it elsewhere."""
