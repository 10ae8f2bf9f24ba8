"""From the bytes of an input file to records: names with their values, numbered.

What is no input is refused here, with one sentence. Whether a record is a good request is no
concern of this folder.
"""
