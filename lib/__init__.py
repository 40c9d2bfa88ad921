"""The thin package behind the notebooks of the speech emotion recognition workbook."""

import os

# TensorFlow reports its processor flags at every import; readers of a notebook
# need its warnings and errors only.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# A step makes and drops hundreds of arrays. TensorFlow's own pool keeps their memory;
# the system's would be given back and asked for again, at a fifth of the time.
os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")
