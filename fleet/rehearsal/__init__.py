"""A model that plays a script: the same loops, gateway and budgets as with a real one, without an account."""
