"""Readers of other people's files, tables, settings and texts: they run nothing and name every fault."""
