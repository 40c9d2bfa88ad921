"""What the Makefile runs: the demo, the renderer, the lock."""
