"""The exceptions of soundranger: few, each one sentence for a person, each carrying what went wrong as data."""


class SoundrangerError(Exception):
    """Base of all errors that a person is told: what is wrong with `subject`, and what to do (`remedy`)."""

    def __init__(self, subject: str, problem: str, remedy: str = "") -> None:
        self.subject = subject
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{subject}: {problem}" + (f"; {remedy}" if remedy else ""))


class MessageError(SoundrangerError):
    """A payload that is not a valid message of the wire contract."""


class InputError(SoundrangerError):
    """A file, a folder or an option that cannot be used."""


class AudioError(SoundrangerError):
    """A microphone, a sound card or the library that reads them is missing or failed."""


class BrokerError(SoundrangerError):
    """An MQTT broker that cannot be reached or started, or that refuses us."""
