"""Training: losses, and one loop over Lightning Fabric."""
