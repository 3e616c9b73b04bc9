"""What people look at: terminal tables, plots, the HTML report."""
