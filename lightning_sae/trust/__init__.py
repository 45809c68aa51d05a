"""Files, tables, settings and texts of others: read without running them, with their faults named."""
