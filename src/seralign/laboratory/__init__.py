"""Built-in worlds: small languages with a known gold reward, to test whether a method improves a policy."""
