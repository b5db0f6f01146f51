"""One file per command; the file's name is the command's name.

Each defines `command` (a function whose parameters are the options, with a docstring that is its help),
`SECTION` (the panel it is listed under) and `EXAMPLE` (a line to type, and what that does).
Heavy imports happen inside `command`, so that a command pays only for what it uses.
"""
