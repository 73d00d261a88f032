"""How options are declared, and the options of tables."""
