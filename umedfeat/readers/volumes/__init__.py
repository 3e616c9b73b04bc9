"""Volumes in one file: NIfTI, MGZ, Analyze and PAR/REC."""
