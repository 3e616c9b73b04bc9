"""What people look at: tables for the terminal, and the page of a study (``umedfeat.report.page.write_report``)."""
