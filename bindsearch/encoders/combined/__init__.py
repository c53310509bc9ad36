"""Two encoders as one: they share a tower, or a linear map leads from one space to the other."""
