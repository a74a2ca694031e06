"""The pages for people: templates, style and script, and what each page shows."""
