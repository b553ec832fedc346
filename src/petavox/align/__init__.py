"""From tiles to one aligned volume: match, solve, render."""
