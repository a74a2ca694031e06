"""One folder for each artifact kind; strangers to each other, with the same rooms inside."""
