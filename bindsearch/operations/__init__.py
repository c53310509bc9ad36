"""Operations on a store, one module a command."""
