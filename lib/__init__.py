"""The thin package behind the notebooks of the speech emotion recognition workbook."""
