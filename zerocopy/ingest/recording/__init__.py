"""What a recorder is made of: rows into records, records into order, order into files.

rows ──▶ ordering ──▶ appending
"""
