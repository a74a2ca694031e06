"""Room 4: remember. Importing this package costs nothing: the database library is loaded when a record is opened."""
