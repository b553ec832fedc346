"""One script per claim: each prints one line of JSON and keeps it in benchmarks/results."""
