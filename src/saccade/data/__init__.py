"""Data: the rendered street and puppets, readers of labelled sets, clips."""
