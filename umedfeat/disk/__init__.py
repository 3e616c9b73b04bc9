"""What the program asks of a file system: plain files only, one writer at a time, space before it is needed."""
