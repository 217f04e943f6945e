"""The commands of ``manet``, one file each."""
