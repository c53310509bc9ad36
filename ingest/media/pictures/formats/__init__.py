"""Parts of the reading of picture formats: pages, kinds that are not read, colour profiles, damaged files."""
