"""What tracing costs, ours and today's: `python -m benchmarks`."""
