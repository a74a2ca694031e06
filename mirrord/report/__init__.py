"""Room 5: report. Status and health are pure; logs and metrics listen to events."""
