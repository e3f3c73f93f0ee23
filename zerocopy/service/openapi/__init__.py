"""/openapi.json: what the server promises, in a form that programs read.

Owns the words; `document.py` puts together what the others say of one endpoint each.
"""
