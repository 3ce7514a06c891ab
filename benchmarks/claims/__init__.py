"""The papers' claims, each run at a size two cores can train: `python -m benchmarks.claims skip` or `reduce`."""
