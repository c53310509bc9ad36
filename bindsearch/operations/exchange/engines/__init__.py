"""Export of vectors and their columns to vector search engines: Qdrant, and PostgreSQL with pgvector."""
