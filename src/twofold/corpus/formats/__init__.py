"""The file formats text is read from: `txt.py` reads `.txt`, and so on; adding a file adds a format.

A format defines `read(stream, where)`: the texts of the documents in an open binary file, in order. `where`
is the file's name for messages. It raises BadFileError, with the line where there is one, for bytes it cannot
read. Compression (`.gz`, `.zst`) is undone before a format sees the bytes.
"""
