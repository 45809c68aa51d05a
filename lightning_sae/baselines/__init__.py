"""The numbers of dictionaries that learned nothing, beside those of the trained one."""
