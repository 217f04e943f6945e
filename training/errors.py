"""The root of the errors that ``training`` raises on purpose; the command line shows each as one line."""


class TrainingError(Exception):
    """What can go wrong with data, recipes, runs and reports; the message is one line that names the file."""
