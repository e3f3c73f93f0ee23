"""The shapes an answer can have: values in, values out."""
