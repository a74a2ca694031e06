"""Room 5: tell. Status and health are pure; logs and metrics listen to events."""
