"""Measurements that were made once, each a program that writes one result file."""
