"""Operators at chosen positions: which inputs an output reads, where its channels are, what it costs."""
