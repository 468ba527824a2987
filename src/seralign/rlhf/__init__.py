"""Reinforcement learning from a reward by the trainers of TRL: GRPO, RLOO, PPO, online DPO, XPO, Nash-MD."""
