"""Filter expressions: one DuckDB expression over documented columns, checked, and run where nothing else is reached."""
