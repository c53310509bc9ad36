"""Filter expressions: DuckDB expressions over documented columns, validated and evaluated in a sandbox."""
