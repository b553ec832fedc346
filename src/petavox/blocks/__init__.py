"""How work is cut up and run."""
