"""DICOM: files become series, series become stacks, stacks are read slice by slice."""
