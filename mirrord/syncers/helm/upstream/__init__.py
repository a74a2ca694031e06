"""Looks at chart repositories: reads what strangers wrote, entry by entry."""
