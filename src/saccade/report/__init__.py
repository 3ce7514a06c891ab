"""What was measured, shown: overlay videos, tables and plots."""
