"""Pictures made from a query: its embedding takes the place of a picture's in a decoder (unCLIP)."""
