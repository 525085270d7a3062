"""One file a benchmark; every module here is imported when a task is looked up."""
