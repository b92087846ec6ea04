"""Many methods on one task: the same teacher, data, splits and budget for all, and what may be concluded."""
