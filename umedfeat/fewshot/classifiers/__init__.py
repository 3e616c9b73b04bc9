"""What is fitted on the drawn data: linear, nearest neighbours, prototypes, attention, ridge."""
