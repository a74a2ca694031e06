"""Room 2, decide: pure functions from what is offered and held to steps with reasons."""
