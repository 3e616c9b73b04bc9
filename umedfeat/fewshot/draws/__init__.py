"""Who is tested and who is labelled: test sets, nested draws, and splits read back."""
