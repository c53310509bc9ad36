"""Operations on a store, one module per command."""
