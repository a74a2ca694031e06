"""Stage 2, plan: pure functions from offered and present content to steps with reasons."""
