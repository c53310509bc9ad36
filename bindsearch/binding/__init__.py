"""Training of towers for new modalities from pairs with media that a fixed encoder embeds."""
