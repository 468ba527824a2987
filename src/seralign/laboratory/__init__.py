"""The built-in world: a small language with a known gold reward, to see whether a method improves a policy."""
