"""Label-free learning of gates: thresholds and channel weights trained on footage to imitate the dense network."""
