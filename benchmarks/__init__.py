"""Measurements of speed; each is a module to run, and none is a test."""
