"""A simulated GPU cluster that speaks every source's wire format; see README.md for what it imitates."""
