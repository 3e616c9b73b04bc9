"""What a person at a terminal sees: tables, progress, log. No business of its own."""
