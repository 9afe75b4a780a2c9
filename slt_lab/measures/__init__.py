"""Measures that several experiments take, one file each."""
