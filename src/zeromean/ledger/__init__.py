"""The record of which files were measured and what each gave: resume, add, remove, audit."""
