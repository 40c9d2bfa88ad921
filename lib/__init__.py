"""The thin package behind the notebooks of the speech emotion recognition workbook."""

import os

# TensorFlow reports its processor flags at every import; warnings and errors stay.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Else it gives the arrays of a step back and asks for them again: a fifth of the time.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")
