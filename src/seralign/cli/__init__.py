"""The command ``seralign``: one file a command; heavy imports inside the commands."""
