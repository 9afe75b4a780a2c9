"""Subjects that several experiments train, one file each."""
