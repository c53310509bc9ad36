"""Exchange of vectors and items: export, import, and merging of stores."""
