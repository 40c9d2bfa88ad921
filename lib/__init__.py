"""The thin package behind the notebooks of the speech emotion recognition workbook."""

import os

# TensorFlow reports its processor flags at every import; readers of a notebook
# need its warnings and errors only.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
