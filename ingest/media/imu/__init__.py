"""Motion recordings: tables, columns, units and rates."""
