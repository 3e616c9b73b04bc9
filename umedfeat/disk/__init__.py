"""What the program asks of a file system: plain files only, one writer at a time, space before it is needed.

Our own files (``plain``) may be no links, given ones (``regular``) may; neither may be a pipe, a socket or a device.
"""
