"""Batching: many waiting faces, one network; a bounded queue, a policy and the scheduler that drives them."""
