"""What was measured, shown: overlay videos and tables."""
