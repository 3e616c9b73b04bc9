"""This machine: child processes that read, and devices in this process or in processes of their own."""
