"""What is measured on a policy: figures with intervals, win rates, scores by a function of the user's."""
