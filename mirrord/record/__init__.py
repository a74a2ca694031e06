"""Stage 4, record. Importing this package is cheap: the database library is loaded when a record is opened."""
