"""Processes: several front ends and one engine process as one service; imported only where it is more than one."""
