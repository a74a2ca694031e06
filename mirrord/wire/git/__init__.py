"""Git, as it is spoken with other machines: addresses, refs, one door to the program, and a bare cache."""
