"""Who is studied: items, patients and labels, of arrays or of a feature file."""
