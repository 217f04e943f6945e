"""The root of the errors that ``training`` raises on purpose; the command line shows each as one line."""


class TrainingError(Exception):
    """An error of data, recipes, runs or reports; the message is one line that names the file."""
