"""What Skip-Convolutions are compared with: compression, pruning, and propagation between key frames."""
