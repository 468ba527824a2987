"""Evaluations on their own: outputs of policies, comparisons of them by a judge, and figures with intervals."""
