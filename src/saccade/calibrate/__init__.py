"""Accuracy without labels: thresholds found on unlabelled footage, and what was checked of them."""
