"""Plans against published tables (tests/tables; n = 50,000, 300 epochs) and hand computation."""
