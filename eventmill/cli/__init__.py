"""The command line: the only room that composes the others into a program."""
