"""The kinds of statistics: what each asks, how its answer reads, and what is published of it."""
