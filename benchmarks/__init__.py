"""Benchmarks: each prints JSON with the machine, threads and commit, and checks its results again."""
