"""What is measured on the test patients, and how sure it is."""
