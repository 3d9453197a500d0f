"""What notebooks and experiments need besides the method; the method imports nothing of it."""
