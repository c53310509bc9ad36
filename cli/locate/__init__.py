"""`bindsearch locate`: where files answer a query."""
