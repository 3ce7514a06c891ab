"""Skip-Convolutions: gated convolutions over clips, and networks converted to them."""
