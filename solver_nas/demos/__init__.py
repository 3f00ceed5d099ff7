"""Small experiments that show what the library does."""
