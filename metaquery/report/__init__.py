"""The report of an evaluation: summary tables, figures, and one self-contained page."""
